"""From a bert4keras script to this package: what is known to be wrong in it, line by line."""

from kexue_keras.migration._script import Finding
from kexue_keras.migration._script import check_script
