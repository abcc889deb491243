"""Segmentation without training: the threshold and the watershed of lesson 01, which later lessons are held against."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from skimage import filters, measure, morphology
from skimage.color import rgb2gray
from skimage.segmentation import watershed
from torch import Tensor


def otsu_mask(image: ArrayLike | Tensor) -> NDArray[np.bool_]:
    """Nuclei of a picture `[3, H, W]`: Otsu's two groups (1979), of which the smaller is the foreground; `[H, W]`."""
    grey = rgb2gray(np.asarray(image), channel_axis=0)
    mask = grey > filters.threshold_otsu(grey)
    return mask if mask.mean() <= 0.5 else ~mask


def split_touching(mask: ArrayLike, min_area: int = 15) -> NDArray[np.int32]:
    """Foreground `[H, W]` -> label map `[H, W]`, touching objects split at their waists (Beucher, Lantuéjoul, 1979).

    Holes are filled; pieces of fewer than `min_area` pixels, or thinner than two, are left out.
    """
    filled = morphology.remove_small_objects(ndimage.binary_fill_holes(np.asarray(mask)), max_size=min_area - 1)
    depth = filters.gaussian(ndimage.distance_transform_edt(filled), 1)
    hills = morphology.h_maxima(depth, 0.75)  # lower ones come from ragged outlines
    return watershed(-depth, measure.label(hills), mask=filled)
