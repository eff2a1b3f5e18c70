"""Operations of a graph: walked, copied, run again with other values."""
