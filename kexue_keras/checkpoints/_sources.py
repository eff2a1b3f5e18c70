"""Where a model comes from: a bundled name, a folder, or a name on the hub, whose folder is downloaded."""

from kexue_keras.checkpoints._bundled import BUNDLED
from kexue_keras.files.paths import path_text
from kexue_keras.hub._download import fetch, is_hub_name


def local_folder(name_or_path):
    """A bundled name or the path of a folder as it is; of a name of the hub the folder that it was fetched into.

    A folder here that is called so wins.

    Args:
        name_or_path: str or any path type.

    Returns:
        str.

    Raises:
        WeightsError: see `hub.fetch`.
    """
    text = path_text(name_or_path)
    return fetch(text) if text not in BUNDLED and is_hub_name(text) else text
