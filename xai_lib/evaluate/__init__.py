"""How good is a map: fidelity, localisation, sanity, how far a gradient predicts."""

from xai_lib.evaluate.adversarial import sign_gradient_attack
from xai_lib.evaluate.agg_att import BINS, AggAtt, agg_att, bin_members
from xai_lib.evaluate.cells import stitch, unstitch
from xai_lib.evaluate.correlation import (
    pearson,
    ranks,
    spearman,
    subset_correlation,
)
from xai_lib.evaluate.fidelity import (
    deletion,
    deletion_curve,
    faithfulness,
    insertion,
    insertion_curve,
)
from xai_lib.evaluate.grids import GridNet
from xai_lib.evaluate.linear import first_order_correlation
from xai_lib.evaluate.localisation import (
    as_scored,
    cell_shares,
    di_full,
    di_part,
    grid_maps,
    grid_pg,
    ml_att,
)
from xai_lib.evaluate.mu_fidelity import (
    mu_fidelity,
    region_falls,
    region_rank_correlation,
)
from xai_lib.evaluate.quantus import quantus_sensitivity_n
from xai_lib.evaluate.randomise import randomised
from xai_lib.evaluate.removal import output_changes
from xai_lib.evaluate.sampling import confident, sample_grids
from xai_lib.evaluate.sanity import (
    cascading_randomisation,
    other_class,
    random_logit,
    reduction_of,
)
from xai_lib.evaluate.sensitivity import sensitivity_curve, sensitivity_n
from xai_lib.evaluate.stability import stability
from xai_lib.evaluate.structural import clip_to_unit, similarity, ssim
from xai_lib.evaluate.subsets import (
    mean_of_defined,
    random_subsets,
    subset_sizes,
)
from xai_lib.evaluate.sufficiency import (
    blurred,
    key_region,
    key_sufficiency,
    moved,
    transplant_rate,
)

__all__ = [
    "BINS",
    "AggAtt",
    "GridNet",
    "agg_att",
    "as_scored",
    "bin_members",
    "blurred",
    "cascading_randomisation",
    "cell_shares",
    "clip_to_unit",
    "confident",
    "deletion",
    "deletion_curve",
    "di_full",
    "di_part",
    "faithfulness",
    "first_order_correlation",
    "grid_maps",
    "grid_pg",
    "insertion",
    "insertion_curve",
    "key_region",
    "key_sufficiency",
    "mean_of_defined",
    "ml_att",
    "moved",
    "mu_fidelity",
    "other_class",
    "output_changes",
    "pearson",
    "quantus_sensitivity_n",
    "random_logit",
    "random_subsets",
    "randomised",
    "ranks",
    "reduction_of",
    "region_falls",
    "region_rank_correlation",
    "sample_grids",
    "sensitivity_curve",
    "sensitivity_n",
    "sign_gradient_attack",
    "similarity",
    "spearman",
    "ssim",
    "stability",
    "stitch",
    "subset_correlation",
    "subset_sizes",
    "transplant_rate",
    "unstitch",
]
