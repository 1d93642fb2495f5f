"""Every door there is, and what it asks for: a new route without a line here fails the tests, and so does one
whose scope has changed. Ids in a path name things that have an owner."""

from __future__ import annotations

from typing import Any

from tests.contracts.conftest import ROWS
from tg_workbench.contracts.route import ContractRoute

CLIENT, OURS = "/api/v1/training_clients/{client_id}", "/workbench/v1/training_clients/{client_id}"
OIP = "/workbench/v1/inference/{service_id}/v2"
OIP_MODELS = (f"{OIP}/models/{{model_name}}", f"{OIP}/models/{{model_name}}/versions/{{model_version}}")
TENSORS: dict[str, Any] = {
    "inputs": [{"name": "features", "shape": [1, 4], "datatype": "FP32", "data": [1.0, 2.0, 3.0, 4.0]}]
}
HOOK = "/workbench/v1/webhooks/{webhook_id}"
MODEL = "/workbench/v1/models/{model_id}"
PUBLIC = {
    "GET /health",
    "GET /ready",
    "GET /live",
    "GET /version",
    "GET /api/v1/health",
    "POST /api/v1/auth/register",
    "POST /api/v1/auth/login",
    "GET /api/v1/auth/authorize",
    "POST /api/v1/auth/authorize",
    "POST /api/v1/auth/token",
    "POST /api/v1/auth/revoke",
    "POST /api/v1/auth/introspect",
    "GET /.well-known/oauth-authorization-server",
    "POST /auth/register",
    "POST /auth/login",
    "POST /auth/refresh",
    "POST /workbench/v1/account",
    "POST /workbench/v1/sessions",
    "POST /workbench/v1/sessions/refresh",
    "POST /api/v1/devices/register",
    "POST /workbench/v1/devices/token",
    "GET /workbench/v1/federation/ca",
    "GET /workbench/v1/federation/crl",
    "GET /workbench/v1/federation/server-keys",
}
SCOPES = {
    "read": {
        "GET /api/v1/training_clients",
        f"GET {CLIENT}",
        "GET /api/v1/futures/{future_id}",
        "GET /api/v1/futures/{future_id}/result",
        "GET /api/v1/auth/me",
        "GET /api/v1/status",
        "GET /api/v1/devices",
        "GET /api/v1/devices/{device_id}",
        "GET /workbench/v1/devices/{device_id}/keys",
        "GET /api/v1/security/keys",
        "GET /api/v1/fl/rounds",
        "GET /api/v1/fl/rounds/{round_id}",
        "GET /workbench/v1/federation/budget",
        "GET /workbench/v1/federation/budget/ledger",
        "GET /workbench/v1/federation/campaigns",
        "GET /workbench/v1/federation/campaigns/{campaign_id}",
        "GET /workbench/v1/federation/rounds/{round_id}/participations",
        "GET /api/training/stats",
        "GET /api/v1/organizations",
        "GET /api/v1/organizations/{org_id}",
        "GET /api/v1/users/{user_id}",
        f"GET {OURS}/events",
        f"GET {OURS}/history",
        f"GET {OURS}/artifacts",
        "GET /workbench/v1/artifacts/{artifact_id}/export",
        "GET /workbench/v1/ledger",
        "POST /workbench/v1/plans",
        "GET /workbench/v1/datasets",
        "GET /workbench/v1/datasets/{dataset_id}",
        "GET /workbench/v1/datasets/{dataset_id}/download",
        "GET /workbench/v1/uploads/{upload_id}",
        "GET /api/v1/datasets",
        "GET /api/v1/datasets/{dataset_id}/download",
        "GET /datasets",
        "GET /datasets/{dataset_id}",
        "GET /models",
        "GET /models/{model_id}",
        "GET /api/models/search",
        "GET /workbench/v1/models",
        f"GET {MODEL}",
        f"GET {MODEL}/versions",
        f"GET {MODEL}/card",
        f"GET {MODEL}/export",
        "GET /workbench/v1/sessions",
        "DELETE /workbench/v1/sessions",
        "DELETE /workbench/v1/sessions/current",
        "DELETE /workbench/v1/sessions/{session_id}",
        "GET /workbench/v1/account",
        "PUT /workbench/v1/account/password",
        "POST /workbench/v1/account/close",
        "GET /api/v1/training/jobs",
        "GET /api/v1/training/jobs/{job_id}",
        "GET /api/v1/training/jobs/{job_id}/logs",
        "GET /training/status/{job_id}",
        "GET /training/results/{job_id}",
        "GET /api/training/jobs",
        "GET /api/training/jobs/{job_id}",
        "GET /api/training/jobs/{job_id}/metrics",
        "GET /api/training/metrics/aggregate",
        "GET /api/analytics/dashboard",
        "GET /workbench/v1/jobs",
        "GET /workbench/v1/jobs/{job_id}",
        "GET /workbench/v1/jobs/{job_id}/events",
        "GET /workbench/v1/jobs/{job_id}/history",
        "GET /workbench/v1/notifications",
        "GET /workbench/v1/notifications/preferences",
        "POST /workbench/v1/notifications/read_all",
        "POST /workbench/v1/notifications/{notification_id}/read",
        "POST /models/{model_id}/predict",
        "GET /api/v1/inference/services",
        "GET /workbench/v1/services/{service_id}",
        "POST /workbench/v1/services/{service_id}/predict",
        f"GET {OIP}",
        f"GET {OIP}/health/live",
        f"GET {OIP}/health/ready",
        *(f"GET {model}{what}" for model in OIP_MODELS for what in ("", "/ready")),
        *(
            f"POST {model}/{what}"
            for model in OIP_MODELS
            for what in ("infer", "generate", "generate_stream")
        ),
    },
    "train": {
        "POST /api/v1/fl/rounds",
        "DELETE /workbench/v1/federation/campaigns/{campaign_id}",
        "POST /api/v1/training/jobs",
        "POST /api/v1/training/jobs/{job_id}/stop",
        "POST /training/start",
        "POST /training/stop/{job_id}",
        "POST /api/training/jobs",
        "POST /api/training/jobs/{job_id}/cancel",
        "POST /api/training/jobs/{job_id}/restart",
        "POST /workbench/v1/jobs",
        "POST /workbench/v1/jobs/{job_id}/stop",
        "POST /workbench/v1/jobs/{job_id}/restart",
        "POST /api/notifications/preferences",
        "POST /api/v1/training_clients",
        f"DELETE {CLIENT}",
        f"POST {CLIENT}/forward_backward",
        f"POST {CLIENT}/optim_step",
        f"POST {CLIENT}/sample",
        f"POST {CLIENT}/save_state",
        f"POST {CLIENT}/load_state",
        "POST /api/v1/futures/{future_id}/cancel",
        f"POST {OURS}/train",
        f"POST {OURS}/evaluate",
        f"POST {OURS}/predict",
        f"POST {OURS}/audit",
        f"POST {OURS}/pause",
        f"POST {OURS}/resume",
        f"POST {OURS}/stop",
        "POST /api/datasets/validate",
        "DELETE /models/{model_id}",
        f"DELETE {MODEL}",
        f"PUT {MODEL}/aliases/{{alias}}",
        f"DELETE {MODEL}/aliases/{{alias}}",
        "POST /api/v1/inference/services",
        "POST /api/v1/inference/services/{service_id}/start",
        "POST /api/v1/inference/services/{service_id}/stop",
        "DELETE /workbench/v1/services/{service_id}",
    },
    "datasets": {
        "POST /workbench/v1/datasets",
        "POST /workbench/v1/datasets/files",
        "DELETE /workbench/v1/datasets/{dataset_id}",
        "POST /workbench/v1/uploads",
        "PATCH /workbench/v1/uploads/{upload_id}",
        "DELETE /workbench/v1/uploads/{upload_id}",
        "POST /api/v1/datasets",
        "POST /datasets/upload",
        "DELETE /datasets/{dataset_id}",
    },
    "devices": {
        "PUT /api/v1/devices/{device_id}",
        "DELETE /api/v1/devices/{device_id}",
        "POST /workbench/v1/devices/{device_id}/revoke",
        "POST /workbench/v1/enrollment-tokens",
        "GET /workbench/v1/enrollment-tokens",
        "DELETE /workbench/v1/enrollment-tokens/{enrollment_token_id}",
    },
    "keys": {
        "POST /workbench/v1/api_keys",
        "GET /workbench/v1/api_keys",
        "DELETE /workbench/v1/api_keys/{key_id}",
    },
    "webhooks": {
        "POST /workbench/v1/webhooks",
        "GET /workbench/v1/webhooks",
        f"GET {HOOK}",
        f"PATCH {HOOK}",
        f"DELETE {HOOK}",
        f"POST {HOOK}/rotate_secret",
        f"POST {HOOK}/ping",
        f"GET {HOOK}/deliveries",
        f"GET {HOOK}/deliveries/{{delivery_id}}",
        f"POST {HOOK}/deliveries/{{delivery_id}}/redeliver",
    },
    "audit": {"GET /workbench/v1/audit", "GET /api/v1/security/audit"},
    "monitoring": {
        "GET /api/v1/monitoring/metrics",
        "GET /api/v1/monitoring/alerts",
        "GET /api/v1/monitoring/logs",
        "GET /workbench/v1/alerts",
        "POST /workbench/v1/alerts/{alert_id}/acknowledge",
        "GET /workbench/v1/alert_rules",
    },
    "admin": {
        "PUT /workbench/v1/federation/budget",
        "POST /api/v1/organizations",
        "PUT /api/v1/organizations/{org_id}",
        "GET /api/v1/users",
        "POST /api/v1/users",
        "PUT /api/v1/users/{user_id}/permissions",
        "POST /workbench/v1/oauth_clients",
        "GET /workbench/v1/oauth_clients",
        "DELETE /workbench/v1/oauth_clients/{oauth_client_id}",
        "POST /workbench/v1/invitations",
        "GET /workbench/v1/invitations",
        "DELETE /workbench/v1/invitations/{invitation_id}",
        "DELETE /workbench/v1/members/{user_id}",
        "POST /workbench/v1/alert_rules/{rule_id}",
        "POST /api/v1/security/keys/rotate",
    },
}
OF_DEVICES = {
    "POST /workbench/v1/devices/{device_id}/heartbeat",
    "POST /workbench/v1/devices/{device_id}/keys",
    "GET /workbench/v1/federation/rounds/{round_id}/secure",
    "POST /workbench/v1/federation/rounds/{round_id}/secure",
}
"""What a device's own token opens and nothing else does; `test_device_sign_in` tries these with other ids."""
IN_ROUNDS = {
    "POST /api/v1/fl/rounds/{round_id}/join",
    "POST /api/v1/fl/rounds/{round_id}/submit",
    "GET /workbench/v1/federation/rounds/{round_id}/model",
    "POST /workbench/v1/federation/rounds/{round_id}/uploads",
    "GET /workbench/v1/federation/rounds/{round_id}/uploads/{upload_id}",
    "PATCH /workbench/v1/federation/rounds/{round_id}/uploads/{upload_id}",
    "DELETE /workbench/v1/federation/rounds/{round_id}/uploads/{upload_id}",
}
"""What a device does in a round, and nobody else; `test_device_sign_in` tries these with others' rounds."""
OF_THE_OPERATOR = {
    "POST /workbench/v1/alerts/{alert_id}/acknowledge",
    "POST /workbench/v1/alert_rules/{rule_id}",
}
"""What no role of an organisation opens; `test_monitoring` tries these with other people's ids."""
FOR_PEOPLE = {
    "GET /workbench/v1/sessions",
    "DELETE /workbench/v1/sessions",
    "DELETE /workbench/v1/sessions/{session_id}",
}
"""What no API key opens, whatever its scopes."""
NEEDED = {door: scope for scope, doors in SCOPES.items() for door in doors} | dict.fromkeys(
    OF_DEVICES | IN_ROUNDS, "device"
)
AMONG_MEMBERS = {
    "GET /api/v1/organizations/{org_id}",
    "GET /api/v1/users/{user_id}",
    "GET /api/v1/devices/{device_id}",
    "GET /workbench/v1/devices/{device_id}/keys",
    "GET /api/v1/fl/rounds/{round_id}",
    "GET /workbench/v1/federation/campaigns/{campaign_id}",
    "GET /workbench/v1/federation/rounds/{round_id}/participations",
}
"""What the members of one organisation see of each other; everything else is one member's own."""
IN_SIGHT_ONLY = {"DELETE /workbench/v1/federation/campaigns/{campaign_id}"}
"""What is done to something that members see, by its owner or an administrator alone."""
BODIES: dict[str, Any] = {
    f"POST {CLIENT}/forward_backward": {"batch": ROWS},
    f"POST {CLIENT}/sample": {"prompts": ["a"]},
    f"POST {CLIENT}/load_state": {"artifact_id": "{artifact_id}"},
    f"POST {OURS}/train": {"steps": 1},
    f"POST {OURS}/evaluate": {"batch": ROWS},
    f"POST {OURS}/predict": {"features": [[1.0, 2.0, 3.0, 4.0]]},
    f"POST {OURS}/audit": {"method": "mechanism"},
    f"PATCH {HOOK}": {"description": "taken over"},
    f"POST {HOOK}/rotate_secret": {},
    "PUT /api/v1/organizations/{org_id}": {"name": "taken over"},
    "PUT /api/v1/devices/{device_id}": {"name": "taken over"},
    "POST /models/{model_id}/predict": {"input": [1.0, 2.0, 3.0, 4.0]},
    "POST /workbench/v1/services/{service_id}/predict": {"input": [1.0, 2.0, 3.0, 4.0]},
    **{f"POST {model}/infer": TENSORS for model in OIP_MODELS},
    **{
        f"POST {model}/{what}": {"text_input": "a"}
        for model in OIP_MODELS
        for what in ("generate", "generate_stream")
    },
    "PUT /api/v1/users/{user_id}/permissions": {"role": "viewer"},
}
"""Good bodies, so that only whose a thing is stands in the way."""
NAMED_ELSEWHERE: list[tuple[str, str, Any]] = [
    ("GET", "/workbench/v1/ledger?dataset_id={dataset_id}", None),
    ("GET", "/workbench/v1/ledger?training_client_id={client_id}", None),
    ("POST", "/workbench/v1/plans", {"dataset_id": "{dataset_id}", "steps": 1, "target_epsilon": 1.0}),
    ("POST", "/api/v1/inference/services", {"name": "mine", "model_id": "{model_id}"}),
    (
        "POST",
        "/api/v1/training_clients",
        {"model_ref": "tiny-llama", "dataset_id": "{dataset_id}", "max_steps": 1},
    ),
]
"""Things of an owner that are named in a query or a body."""


def name_of(route: ContractRoute) -> str:
    """A route as the lines here name it."""
    return f"{','.join(route.methods or ())} {route.path}"
