"""Files and folders that are whole or not there, also after a full disk or a kill; locks against a second process."""

from kexue_keras.files.atomic import MARK, atomic, atomic_path, is_temporary, remove_leftovers, write_json
from kexue_keras.files.contents import StagedContents
from kexue_keras.files.folders import check_target, restore_interrupted, whole_folder
from kexue_keras.files.lock import FolderLock
from kexue_keras.files.system_errors import describe

__all__ = [
    "FolderLock",
    "MARK",
    "StagedContents",
    "atomic",
    "atomic_path",
    "check_target",
    "describe",
    "is_temporary",
    "remove_leftovers",
    "restore_interrupted",
    "whole_folder",
    "write_json",
]
