"""The workbench from the other side: what notebooks, scripts and widgets use. HTTP only, never torch.

    from tg_workbench import Workbench

    wb = Workbench()
    patients = wb.datasets.upload("patients.csv", target="sick")
    job = wb.jobs.submit("mlp", patients, target_epsilon=3)     # to its end by itself
    (await job).model.predict(frame)

    rows = wb.datasets.upload("points", features=X, targets=y)   # or step by step
    client = wb.create_training_client("mlp", dataset=rows, target_epsilon=3, max_steps=200)
    run = client.train(steps=200)      # returns at once; the bar moves
    await run                          # the kernel stays free

Pitfalls:
- A cell that loops over `future.result()` keeps the kernel busy: buttons answer when it ends. Use
  `client.train(...)`, or `await` the futures.
- `client.status`, `.step` and `.privacy` ask each time; for several of them at one moment take `refresh()`.
- Rows you send yourself (`features=`, `input_ids=`) get no amplification by sampling, and no privacy at all
  unless the client was created with some. Register a dataset instead.
- A loss is exact: it is for the owner of the data, and not covered by ε.
- A kernel that ends does not end its training clients. `client.terminate()` does.
- A device's rows stay with it, but an update is computed from them: without differential privacy or secure
  aggregation it can tell about them. `wb.federation.start(…, target_epsilon=…)` bounds what it tells.
- `wb.login` changes who `wb` is, with everything made from it. Two people are two Workbenches.
"""

from tg_workbench.sdk import recipes
from tg_workbench.sdk.accounts import Account
from tg_workbench.sdk.alerts import Alert, AlertRule, Alerts
from tg_workbench.sdk.api_keys import ApiKey, ApiKeys
from tg_workbench.sdk.audit_log import AuditEntry, AuditLog
from tg_workbench.sdk.audits import Audit
from tg_workbench.sdk.campaign_views import (
    CampaignProgress,
    CampaignView,
    Participation,
    RoundProgress,
    RoundView,
)
from tg_workbench.sdk.campaigns import Campaign
from tg_workbench.sdk.catalogue import Datasets
from tg_workbench.sdk.dataset_warnings import DatasetWarning
from tg_workbench.sdk.datasets import Dataset, Validation
from tg_workbench.sdk.devices import DeviceKey, DeviceKeys, Devices, DeviceView, EnrollmentToken, Rotation
from tg_workbench.sdk.events import Event, EventStream, Subscription
from tg_workbench.sdk.federation import Federation
from tg_workbench.sdk.futures import Future
from tg_workbench.sdk.job_plans import EarlyStopping, Schedule
from tg_workbench.sdk.job_views import JobLogLine, JobProgress, JobView
from tg_workbench.sdk.jobs import Job, Jobs
from tg_workbench.sdk.logs import LogLine
from tg_workbench.sdk.models import Model, Service
from tg_workbench.sdk.notifications import Notification, Notifications
from tg_workbench.sdk.organizations import Invitation, Organization, Organizations
from tg_workbench.sdk.plans import Architecture, LoRA, Optimizer, Privacy
from tg_workbench.sdk.privacy_plans import PrivacyPlan
from tg_workbench.sdk.progress import Progress
from tg_workbench.sdk.registry import Models
from tg_workbench.sdk.runs import TrainingRun
from tg_workbench.sdk.services import Services
from tg_workbench.sdk.training_clients import TrainingClient, TrainingClients
from tg_workbench.sdk.users import User, Users
from tg_workbench.sdk.values import (
    Checkpoint,
    ClientView,
    Completion,
    DPMetrics,
    Evaluation,
    ForwardBackward,
    Ledger,
    OptimStep,
    Prediction,
    PrivacyView,
    TrainResult,
)
from tg_workbench.sdk.webhooks import Webhook, WebhookDelivery, Webhooks
from tg_workbench.sdk.workbench import Workbench

__all__ = [
    "Account",
    "Alert",
    "AlertRule",
    "Alerts",
    "ApiKey",
    "ApiKeys",
    "Architecture",
    "Audit",
    "AuditEntry",
    "AuditLog",
    "Campaign",
    "CampaignProgress",
    "CampaignView",
    "Checkpoint",
    "ClientView",
    "Completion",
    "DPMetrics",
    "Dataset",
    "DatasetWarning",
    "Datasets",
    "DeviceKey",
    "DeviceKeys",
    "DeviceView",
    "Devices",
    "EarlyStopping",
    "EnrollmentToken",
    "Evaluation",
    "Event",
    "EventStream",
    "Federation",
    "ForwardBackward",
    "Future",
    "Invitation",
    "Job",
    "JobLogLine",
    "JobProgress",
    "JobView",
    "Jobs",
    "Ledger",
    "LoRA",
    "LogLine",
    "Model",
    "Models",
    "Notification",
    "Notifications",
    "OptimStep",
    "Optimizer",
    "Organization",
    "Organizations",
    "Participation",
    "Prediction",
    "Privacy",
    "PrivacyPlan",
    "PrivacyView",
    "Progress",
    "Rotation",
    "RoundProgress",
    "RoundView",
    "Schedule",
    "Service",
    "Services",
    "Subscription",
    "TrainResult",
    "TrainingClient",
    "TrainingClients",
    "TrainingRun",
    "User",
    "Users",
    "Validation",
    "Webhook",
    "WebhookDelivery",
    "Webhooks",
    "Workbench",
    "recipes",
]
