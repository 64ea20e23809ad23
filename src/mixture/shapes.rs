//! What is computed how, by the shape of the problem: `k` components, `d` features, and registers. The crossovers of the
//! kernels, each where two ways were measured to take as long, with AVX2 and with AVX-512.
//!
//! | | few | many |
//! |---|---|---|
//! | factor of a component | packed triangle, a kernel for each `d` | panels of rows |
//! | differences of rows | from the mean of each component | from an [origin](SHARED_ORIGIN) that they share |
//! | rows of a leaf | in their order | [in order](order) by components or leading features |
//! | sums, components apart | lanes of rows | [lanes of features](by_feature) |
//! | sums, components overlap | the same | [products](products) of features, shared by all components |
//! | sums, responsibilities by row | the same | [lanes of components](by_component) |

use super::simd::Level;
use super::statistics::Scatter;

/// Features up to which a factor is a packed triangle, and its kernel compiled for their number.
pub const TRIANGULAR: usize = 6;
/// Features up to which all sums of a component stay in registers, where there are 32, by a kernel compiled for their number.
pub const SUMS_IN_REGISTERS: usize = 5;
/// Order up to which the textbook recurrence factorises a matrix sooner than a blocked one is set up.
pub const RECURRENCE: usize = 8;
/// Components from which an origin that they share is worth the differences from it.
pub const SHARED_ORIGIN: usize = 8;
/// Components from which a tree can put rows in order, whatever their features, and leaves are long.
pub const MANY: usize = 48;
/// Registers for more than twelve sums beside what is multiplied.
pub const MANY_REGISTERS: usize = 32;

/// What puts the rows of a leaf in order.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// A tree over the means, where components are many.
    Tree,
    /// Leading features, where features are many.
    Leading,
}

/// None if components and features are few, or features independent and components few.
pub fn order(k: usize, d: usize, independent: bool) -> Option<By> {
    if !independent && d >= 48 && k >= 4 {
        Some(By::Leading)
    } else if k >= MANY || !independent && k >= 8 && k * d >= 128 {
        Some(By::Tree)
    } else {
        None
    }
}

/// Whether lanes are features, which rows are transposed for, where each component is summed up for itself. With rows as
/// lanes the arithmetic is least, but each sum is a vector, here so many numbers of all, and a row costs all components
/// alike.
pub fn by_feature(d: usize, form: Scatter, numbers: usize) -> bool {
    let leave_the_cache = numbers > 1 << 16;
    form == Scatter::Full && (d >= 24 || leave_the_cache && d > SUMS_IN_REGISTERS)
}

/// Whether components that overlap are many enough for products of features that they share, which otherwise take longer
/// than sums of each for itself; and few enough for as many rows to be held as they need.
pub fn products(k: usize, d: usize, level: Level) -> bool {
    let few = match (level.registers() >= MANY_REGISTERS, d) {
        (true, 0..6) | (false, 0..4) => usize::MAX,
        (true, 6..8) => 8,
        (true, 8..64) | (false, 4..6) => 16,
        (true, _) => 32,
        (false, _) => (d / 2).clamp(8, 32),
    };
    k >= few && (k + d) * HELD <= 1 << 18
}

/// Rows held for products, whose panel stays in a first-level cache: those of five blocks where components and features are
/// so many.
pub const HELD: usize = 480;

/// Rows held at most: their features and shares stay in a second-level cache, which is smaller where registers are few.
pub fn rows_held(k: usize, d: usize, level: Level) -> usize {
    if level.registers() >= MANY_REGISTERS {
        HELD
    } else {
        ((3 << 14) / (1 + d + k)).clamp(192, 384)
    }
}

/// Whether components are many enough to be lanes, where responsibilities lie row after row, and products of a row few
/// enough for each component to be summed up whole.
pub fn by_component(k: usize, products: usize) -> bool {
    k >= 12 && products <= 24
}

/// Rows of a leaf: enough for the merging of statistics not to show, few enough for ten thousand rows to occupy threads.
/// Many components want leaves in which each has some rows, as long as these stay in a cache.
pub fn leaf_rows(d: usize, k: usize) -> usize {
    if k < MANY {
        return 1024;
    }
    let fitting = (128 * k).min((1 << 17) / d.max(1)).clamp(1024, 32_768);
    1 << fitting.ilog2()
}

/// Rows of a block, whose features, their differences from a mean, and responsibilities stay in a first-level cache.
pub fn block_rows(d: usize, k: usize) -> usize {
    match 2 * d + k {
        0..=12 => 256,
        13..=20 => 128,
        _ => 96,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mixture::rows::PAD;

    #[test]
    fn blocks_are_padded_lie_in_leaves_and_shrink_with_the_width() {
        let mut before = block_rows(0, 0);
        for width in 1..5000 {
            let rows = block_rows(width / 3, width - width / 3);
            assert!(rows.is_multiple_of(PAD) && rows <= before.min(leaf_rows(3, 2)), "{width}: {rows}");
            before = rows;
        }
    }
}
