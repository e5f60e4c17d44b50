"""The courses of a version's decisions, by the project's mapping of processes."""

from __future__ import annotations

from datetime import datetime
from functools import partial

from include.bpmn.mapping import load_mapping
from include.datasets import freeze as freezing
from include.decisions.asking import Hands
from include.decisions.course import Course
from include.decisions.release_course import ReleaseCourse
from include.governance.records import VersionRecord
from include.projects.model import Project
from include.run.run import Run
from include.systems.opentext.client import OpenTextClient

__all__ = ["approval_course", "release_course"]


def approval_course(run: Run, project: Project, version: VersionRecord, opentext: OpenTextClient) -> Course:
    """Return the course of a version's approval."""
    mapping = load_mapping(project.process_mapping).labeling_approval
    return Course(run, project, version, opentext, mapping, partial(_hands, run, project, version))


def release_course(run: Run, project: Project, version: VersionRecord, opentext: OpenTextClient) -> ReleaseCourse:
    """Return the course of a version's release."""
    mapping = load_mapping(project.process_mapping).dataset_release
    return ReleaseCourse(run, project, version, opentext, mapping, partial(_hands, run, project, version))


def _hands(run: Run, project: Project, version: VersionRecord) -> Hands:
    manifest = freezing.read_manifest(run.store, project.name, version.digest)
    first = manifest.first_answer_at
    return Hands(manifest.hands, datetime.fromisoformat(first) if first else None)
