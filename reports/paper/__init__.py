"""The experiments of Hu et al. 2021 (arXiv 2106.09685), one a file."""
