"""Files and folders that are whole or not there, also after a full disk or a kill; locks against a second process."""

from kexue_keras.files.atomic_files import MARK
from kexue_keras.files.atomic_files import atomic
from kexue_keras.files.atomic_files import atomic_path
from kexue_keras.files.atomic_files import is_temporary
from kexue_keras.files.atomic_files import remove_leftovers
from kexue_keras.files.atomic_files import write_json
from kexue_keras.files.contents import StagedContents
from kexue_keras.files.folders import check_target
from kexue_keras.files.folders import restore_interrupted
from kexue_keras.files.folders import whole_folder
from kexue_keras.files.lock import FolderLock
from kexue_keras.files.system_errors import describe
