"""Settings found by trying them on this machine."""

from kexue_keras.tuning._fastest import find_fastest
