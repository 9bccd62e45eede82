"""Every page of the showcase: what tests and screenshots walk through."""

from __future__ import annotations

from web.showcase import TURN

PAGES = {
    "overview": "/",
    "models": "/models",
    "model": "/models/smart-home",
    "model-new": "/models/summary-pt",
    "release": "/models/smart-home/release",
    "release-waiting": "/models/support-router/release",
    "release-quiet": "/models/tone-checker/release",
    "versions": "/models/smart-home/versions",
    "version": "/versions/smart-home@2",
    "drift": "/models/smart-home/drift",
    "turns": "/turns",
    "turn": f"/turns/{TURN}",
    "interactions": "/interactions",
    "interactions-none": "/interactions?q=nothing-has-this",
    "interaction": "/interactions/019bafe2-b7c2-7d1e-8f00-000000000009",
    "datasets": "/datasets",
    "dataset": "/datasets/smart-home/2",
    "diff": "/datasets/smart-home/diff/1..2",
    "experiments": "/experiments",
    "trial": "/experiments/trial_12",
    "trial-running": "/experiments/trial_13",
    "alerts": "/alerts",
    "alert": "/alerts/alert_1",
    "audit": "/audit",
    "settings": "/settings",
    "keys": "/settings/keys",
    "about": "/settings/about",
    "ask-rollback": "/models/smart-home/rollback",
    "ask-promote": "/versions/smart-home@2/promote",
    "ask-approve": "/models/support-router/approve",
    "ask-turn": "/models/smart-home/turn",
    "ask-revoke": "/settings/keys/key_3/revoke",
    "missing": "/models/nobody",
}
