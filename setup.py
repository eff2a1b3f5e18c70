"""Packaging of kexue_keras; versions that were tested together stand in constraints.txt."""

import os

from setuptools import find_packages, setup

HERE = os.path.dirname(os.path.abspath(__file__))

with open(os.path.join(HERE, "README.md"), encoding="utf-8") as handle:
    long_description = handle.read()

SEQ2SEQ = ["rouge", "nltk"]
SIMILARITY = ["faiss-cpu", "jieba"]

setup(
    name="kexue-keras",
    version="0.1.0",
    description="The techniques of kexue.fm as tested Keras parts that plug into bert4keras",
    long_description=long_description,
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.7",
    packages=find_packages(include=["kexue_keras", "kexue_keras.*"]),
    py_modules=["kexue_keras_launcher"],
    package_data={"kexue_keras": ["assets/*"]},
    # TensorFlow is left out on purpose: NVIDIA's image brings its own build, which pip must not replace.
    install_requires=[
        "Keras==2.3.1; python_version < '3.9'",
        "bert4keras>=0.11.3,<=0.11.5",
        "h5py<3; python_version < '3.9'",
        "protobuf<3.21; python_version < '3.9'",
        "numpy>=1.16.5",
        "packaging",
        "scipy",
        "scikit-learn",
        "matplotlib",
        "pandas",
        "tqdm",
        "sentencepiece",
        # Locks the folder of a run; schemas of settings files. The last versions with Python 3.7.
        "filelock>=3.4",
        "jsonschema>=4,<4.18; python_version < '3.8'",
        "jsonschema>=4; python_version >= '3.8'",
        # Later ones have no wheels for Python 3.7, and to build one takes Rust.
        "safetensors>=0.4,<0.5; python_version < '3.8'",
        "safetensors>=0.4; python_version >= '3.8'",
    ],
    extras_require={
        "cpu": ["tensorflow==1.15.5; python_version < '3.8'"],
        "demo": ["snownlp"],
        "dev": ["pytest", "pytest-xdist", "hypothesis", "flake8", "isort", "black", "import-linter", *SEQ2SEQ, *SIMILARITY],
        "seq2seq": SEQ2SEQ,
        "similarity": SIMILARITY,
        "docs": ["mkdocs", "mkdocs-material"],
        "horovod": ["horovod>=0.22,<0.23"],
    },
    entry_points={"console_scripts": ["kexue-keras = kexue_keras_launcher:main"]},
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Natural Language :: Chinese (Simplified)",
        "Natural Language :: English",
        "Programming Language :: Python :: 3.7",
        "Programming Language :: Python :: 3.8",
    ],
)
