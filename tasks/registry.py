"""The public names of this package: tasks by name, suites by name or path. Imports nothing heavy."""

from tasks.catalog import data_files, list_tasks, resolve
from tasks.errors import TaskError
from tasks.info import ResolvedTask, TaskInfo
from tasks.own import spellings
from tasks.suite import (
    Average,
    Column,
    Published,
    Suite,
    SuiteProtocol,
    list_suites,
    load_suite,
    resolve_column,
    suite_names,
)

__all__ = [
    "Average",
    "Column",
    "Published",
    "ResolvedTask",
    "Suite",
    "SuiteProtocol",
    "TaskError",
    "TaskInfo",
    "data_files",
    "list_suites",
    "list_tasks",
    "load_suite",
    "resolve",
    "resolve_column",
    "spellings",
    "suite_names",
]
