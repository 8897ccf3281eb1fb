//! Images that are shipped. Written by `build.sh`.

use super::module::Image;

/// Every source for every target.
pub(super) static IMAGES: &[Image] = &[];
