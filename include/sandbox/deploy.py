"""Deploy our process models to the local OpenText: ``python -m include.sandbox.deploy``, in Airflow's environment."""

from __future__ import annotations

from include.settings import ROOT


def main() -> None:
    """Deploy both models through the hook, as a modeller's tool would; a model that is there already is left alone."""
    from labelops.hooks.opentext import OpenTextWorkflowHook

    hook = OpenTextWorkflowHook()
    for key in ("labeling_approval", "dataset_release"):
        hook.deploy(key, (ROOT / "include" / "bpmn" / f"{key}.bpmn").read_text("utf-8"))


if __name__ == "__main__":
    main()
