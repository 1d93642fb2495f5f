"""Rounds: devices learn one model together, each on its own rows, and send sealed updates.

The API's half (this front) joins devices and keeps what they send; the worker's half (`worker.py` and what it
imports) is loaded only in worker processes, because it needs torch.

Pitfalls: every change of phase is stored before it is told, so a process that is killed has either made it or
not; what a round's keys have sealed can be opened by nobody once the round is over, and where devices may be
late (FedBuff) once it waits for none of them any more.
"""

from tg_workbench.federation.rounds.assignments import Assignments, Signer
from tg_workbench.federation.rounds.campaigns import Campaigns
from tg_workbench.federation.rounds.letterbox import Letterbox
from tg_workbench.federation.rounds.phases import Counts, Part, Phase
from tg_workbench.federation.rounds.rounds import Offer, Rounds, count_active
from tg_workbench.federation.rounds.specs import CampaignSpec, Criteria, LocalTraining, work_kinds
from tg_workbench.federation.rounds.submissions import Arrived, Submissions
from tg_workbench.federation.rounds.tables import Campaign, Participation, Round, UpdateUpload
from tg_workbench.federation.rounds.update_uploads import UpdateUploads

__all__ = [
    "Arrived",
    "Assignments",
    "Campaign",
    "CampaignSpec",
    "Campaigns",
    "Counts",
    "Criteria",
    "Letterbox",
    "LocalTraining",
    "Offer",
    "Part",
    "Participation",
    "Phase",
    "Round",
    "Rounds",
    "Signer",
    "Submissions",
    "UpdateUpload",
    "UpdateUploads",
    "count_active",
    "work_kinds",
]
