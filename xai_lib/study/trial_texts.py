"""What each test of a trial asks, and what its number cannot say."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Question:
    """A test in words; ``{start}`` and its like are filled in from a trial's ``about``.

    Attributes
    ----------
    title : the question
    asks : what is measured, and the control
    limit : what the number cannot say
    chapter : of the book, where it is explained
    """

    title: str
    asks: str
    limit: str
    chapter: str


QUESTIONS = {
    "class": Question(
        "Does the map depend on the class?",
        "Structural similarity (SSIM) of the map of the predicted class and the map "
        "of another class, drawn at random: 1 is the same picture, up to scale and "
        "sign. Control: SSIM of the maps of two photographs.",
        "Near 1, the map cannot tell why this class and not another. A low value is "
        "no merit: grain is unlike grain, whatever it says.",
        "04_rank_one",
    ),
    "weights": Question(
        "Does the map depend on the weights?",
        "SSIM of the map and the maps of copies of the network: one whose last layer "
        "({top}) is random, one whose weights are all random. Control: SSIM of the "
        "maps of two photographs.",
        "Near 1, the map does not show what these weights decide. A low value is no "
        "merit, and random weights also change the size of what reaches the layers "
        "above.",
        "04_rank_one",
    ),
    "convergence": Question(
        "Can what lies above reach the pixels?",
        "Random vectors start at {start} and go down by the method's rules: |cosine| "
        "between them, per position, at {lowest}, the lowest layer. Controls: vectors "
        "that are random there, {chance}, and the plain gradient where it was tried.",
        "Near 1, a position of the map cannot tell what came from above; how strong "
        "it is still can. A low value says that the class could reach the pixels, not "
        "that it did. Asked of the gradient and of modified backpropagation only.",
        "04_rank_one",
    ),
    "spectrum": Question(
        "How grainy is the map?",
        "Share of the map's power above a quarter of the sampling rate. Control: "
        "random numbers.",
        "Grain need not be noise, and a smooth map is not a better one.",
        "02_spectra",
    ),
    "faithfulness": Question(
        "Do the marked pixels matter to the network?",
        "F, insertion minus deletion: how much sooner the class appears when pixels "
        "are shown in the order of the map than it disappears when they are taken "
        "away. Once as it is, once after a low-pass filter at {cutoff} cycles per "
        "image. Controls: random numbers, and edges of the photograph, which know "
        "nothing of the network, under the same filter.",
        "The metric pays for taking away connected patches, so a filter may raise it "
        "for any map: only what a map gains beyond random numbers speaks for it. And "
        "a photograph with holes is unlike what the network was trained on.",
        "07_low_pass",
    ),
    "mu_fidelity": Question(
        "Does more attribution mean more influence?",
        "muFidelity: rank correlation, over random sets of cells, between the "
        "attribution in a set and the fall of the logit without it. Control: random "
        "numbers, which are not at 0, since a larger set holds more of both.",
        "It compares sets of cells within one photograph, and says nothing of single "
        "pixels.",
        "08_reranked",
    ),
    "di_full": Question(
        "Does the map stay where the network could look?",
        "DiFull: four photographs in a grid, each seen alone. Share of the positive "
        "attribution that lies in the one cell that the output has seen. CAM is asked "
        "at its layer, all others at the pixels. Controls: a uniform map, 0.25, and "
        "random numbers.",
        "A method of backpropagation scores 1 with any weights, trained or random. It "
        "asks where, not which pixels inside the cell, nor for which class.",
        "06_difull",
    ),
    "grid_pg": Question(
        "Does the map point at the photograph of its class?",
        "GridPG: the network sees four photographs of four classes as one. Share of "
        "the positive attribution of each class that lies on its photograph. CAM is "
        "asked at its layer, all others at the pixels. Controls: a uniform map, 0.25, "
        "and random numbers.",
        "Nothing forbids the network to use the other cells, so a map outside its "
        "cell may be right.",
        "06_difull",
    ),
}
"""By test, in the order of the report; a trial asks one of the last two."""
