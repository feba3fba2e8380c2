//! Affine operations by nearest neighbour with black outside, as Pillow's `Image.transform` and `rotate`.

use super::Picture;

/// 16.16 fixed point, as Pillow steps through a picture.
fn fixed(value: f64) -> i64 {
    (value * 65536.0 + 0.5).floor() as i64
}

/// Where pixels come from in 16.16 fixed point: x and y of the first one, then the steps of x and y along a row, and
/// along a column. The pixel at (x, y) comes from (a0 x + a1 y + a2, a3 x + a4 y + a5).
pub(super) fn steps(a: [f64; 6]) -> [i64; 6] {
    let first = [fixed(a[2] + a[0] * 0.5 + a[1] * 0.5), fixed(a[5] + a[3] * 0.5 + a[4] * 0.5)];
    [first[0], first[1], fixed(a[0]), fixed(a[3]), fixed(a[1]), fixed(a[4])]
}

/// `Image.transform(size, AFFINE, a)`.
pub(super) fn affine(picture: &Picture, a: [f64; 6]) -> Picture {
    let [x, y, right_x, right_y, down_x, down_y] = steps(a);
    let mut row = [x, y];
    let mut from = Vec::with_capacity(picture.height * picture.width);
    for _ in 0..picture.height {
        let mut at = row;
        for _ in 0..picture.width {
            from.push((at[1] >> 16, at[0] >> 16));
            at = [at[0] + right_x, at[1] + right_y];
        }
        row = [row[0] + down_x, row[1] + down_y];
    }
    gather(picture, from)
}

/// The steps of a move by whole pixels.
pub(super) fn shift_steps(right: i64, down: i64) -> [i64; 6] {
    [-right * 65536, -down * 65536, 65536, 0, 0, 65536]
}

/// Moved by whole pixels to the right and down.
pub(super) fn shift(picture: &Picture, right: i64, down: i64) -> Picture {
    let places = (0..picture.height as i64).flat_map(|y| (0..picture.width as i64).map(move |x| (y - down, x - right)));
    gather(picture, places.collect())
}

/// Counter-clockwise about the centre, in degrees.
pub(super) fn rotate(picture: &Picture, degrees: f64) -> Picture {
    match rotation(picture.height, picture.width, degrees) {
        Some(matrix) => affine(picture, matrix),
        None => picture.clone(),
    }
}

/// The matrix of a rotation; none for a whole turn.
pub(super) fn rotation(height: usize, width: usize, degrees: f64) -> Option<[f64; 6]> {
    let degrees = degrees.rem_euclid(360.0);
    if degrees == 0.0 {
        return None;
    }
    let angle = -degrees.to_radians();
    // Pillow rounds to 15 decimals, so that right angles are exact.
    let round = |v: f64| (v * 1e15).round_ties_even() / 1e15;
    let (cos, sin) = (round(angle.cos()), round(angle.sin()));
    let minus = round(-angle.sin());
    let (cx, cy) = (width as f64 / 2.0, height as f64 / 2.0);
    Some([cos, sin, cos * -cx + sin * -cy + cx, minus, cos, minus * -cx + cos * -cy + cy])
}

/// The picture of the pixels at (row, column), black where there is none.
fn gather(picture: &Picture, places: Vec<(i64, i64)>) -> Picture {
    let (height, width) = (picture.height as i64, picture.width as i64);
    let mut data = vec![0; picture.data.len()];
    for (to, (y, x)) in data.chunks_exact_mut(3).zip(places) {
        if (0..height).contains(&y) && (0..width).contains(&x) {
            to.copy_from_slice(&picture.data[((y * width + x) * 3) as usize..][..3]);
        }
    }
    Picture { data, ..*picture }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_turn_carries_the_corner_and_a_shift_leaves_black() {
        let mut data = vec![10; 3 * 3 * 3];
        data[..3].copy_from_slice(&[1, 2, 3]);
        let picture = Picture { height: 3, width: 3, data };
        let turned = rotate(&picture, 90.0);
        assert_eq!(turned.data[6 * 3..7 * 3], [1, 2, 3]);
        let moved = shift(&picture, 1, 0);
        assert_eq!((&moved.data[..3], &moved.data[3..6]), (&[0u8, 0, 0][..], &[1u8, 2, 3][..]));
    }
}
