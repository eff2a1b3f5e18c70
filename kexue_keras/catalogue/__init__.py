"""What the package has: techniques, their articles, public names and pages.

`kexue-keras list` and the tables of both READMEs are made from it; what works is found out by looking for the
names, so that the table cannot promise what is not there.
"""

from kexue_keras.catalogue._lookup import exists
from kexue_keras.catalogue._lookup import find
from kexue_keras.catalogue._lookup import missing_names
from kexue_keras.catalogue._lookup import search
from kexue_keras.catalogue._tables import article_links
from kexue_keras.catalogue._tables import markdown_table
from kexue_keras.catalogue._techniques import TECHNIQUES
