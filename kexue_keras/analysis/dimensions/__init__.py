"""How many dimensions are enough: Johnson and Lindenstrauss' lemma, word vectors, attention heads, low rank."""

from kexue_keras.analysis.dimensions._entropy import DIMENSION_COEFFICIENT
from kexue_keras.analysis.dimensions._entropy import cooccurrence_entropy
from kexue_keras.analysis.dimensions._entropy import embedding_dimension
from kexue_keras.analysis.dimensions._entropy import head_size
from kexue_keras.analysis.dimensions._entropy import laplace_constants
from kexue_keras.analysis.dimensions._entropy import pair_entropy
from kexue_keras.analysis.dimensions._entropy import smallest_dimension
from kexue_keras.analysis.dimensions._entropy import sphere_term
from kexue_keras.analysis.dimensions._fit import fit_attention
from kexue_keras.analysis.dimensions._johnson_lindenstrauss import jl_dimension
from kexue_keras.analysis.dimensions._johnson_lindenstrauss import jl_success_probability
from kexue_keras.analysis.dimensions._johnson_lindenstrauss import length_failure
from kexue_keras.analysis.dimensions._johnson_lindenstrauss import product_failure
from kexue_keras.analysis.dimensions._low_rank import project_rank
from kexue_keras.analysis.dimensions._low_rank import randomized_svd
from kexue_keras.analysis.dimensions._search import pca_and_projection
from kexue_keras.analysis.dimensions._search import search_recall
