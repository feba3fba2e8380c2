//! Holds resizing, crops, the affine warp and RandAugment against torchvision and Pillow (`make_torch.py`).

use scaleshot::data::{
    augment::View,
    normalise::{Levels, Normalise},
    randaugment::{OPERATIONS, Picture},
    sampling::{Axis, Geometry, ImageDims, Warp, render},
};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Sentences on what agreed, or the first difference.
pub fn check(json: &Value) -> Result<Vec<String>, String> {
    let mut said = Vec::new();
    for (name, geometry) in [
        ("resized", resized as fn(&Value) -> Result<Geometry, String>),
        ("centre", centre),
        ("bit_crop", bit_crop),
        ("resized_crop", resized_crop),
    ] {
        let mut furthest = 0f32;
        let cases = json[name].as_array().ok_or_else(|| format!("{name} is missing"))?;
        for (i, case) in cases.iter().enumerate() {
            let far = levels(case, &geometry(case)?, 1.0).map_err(|e| format!("{name}[{i}]: {e}"))?;
            furthest = furthest.max(far);
        }
        said.push(format!("{name}: {} pictures, at most {furthest:.2} grey levels apart", cases.len()));
    }
    let cases = json["affine"].as_array().ok_or("affine is missing")?;
    for (i, case) in cases.iter().enumerate() {
        // torchvision turns by matrices in float32.
        affine(case).and_then(|g| levels(case, &g, 0.1)).map_err(|e| format!("affine[{i}]: {e}"))?;
    }
    said.push(format!("affine: {} warps", cases.len()));
    let cases = json["rand_augment"].as_array().ok_or("rand_augment is missing")?;
    for case in cases {
        operation(case).map_err(|e| format!("{} at {} by {}: {e}", case["name"], case["m"], case["sign"]))?;
    }
    said.push(format!("rand_augment: {} pictures, to the level", cases.len()));
    Ok(said)
}

/// The picture of the script: (size, bytes).
fn picture(case: &Value) -> Result<(ImageDims, Vec<u8>), String> {
    let [height, width, channels] = numbers(&case["size"])?;
    let mut data = Vec::new();
    for y in 0..height {
        for x in 0..width {
            for c in 0..channels {
                data.push(((x * x * 3 + y * 7 + x * y * 5 + c * 50 + (x / 3 + y / 2) % 2 * 90) % 256) as u8);
            }
        }
    }
    Ok((ImageDims { height, width, channels }, data))
}

fn numbers<const N: usize>(value: &Value) -> Result<[usize; N], String> {
    let list: Option<Vec<usize>> =
        value.as_array().and_then(|l| l.iter().map(|v| v.as_u64().map(|v| v as usize)).collect());
    list.and_then(|l| l.try_into().ok()).ok_or_else(|| format!("{value} is not {N} numbers"))
}

fn number(case: &Value, name: &str) -> Result<f64, String> {
    case[name].as_f64().ok_or_else(|| format!("{name} is missing"))
}

fn resized(case: &Value) -> Result<Geometry, String> {
    let [height, width, _] = numbers(&case["size"])?;
    let [h, w] = numbers(&case["to"])?;
    let axis = |length, to| Axis { start: 0, length, resized: to, first: 0, count: to };
    Ok(Geometry { y: axis(height, h), x: axis(width, w), mirrored: false, warp: None })
}

fn centre(case: &Value) -> Result<Geometry, String> {
    let view = View::Center { resize_px: number(case, "resize")? as u32, px: number(case, "crop")? as u32 };
    Ok(view.geometry(picture(case)?.0))
}

fn bit_crop(case: &Value) -> Result<Geometry, String> {
    let [height, width, _] = numbers(&case["size"])?;
    let (resized, count) = (number(case, "resize")? as usize, number(case, "crop")? as usize);
    let axis = |length, first: f64| Axis { start: 0, length, resized, first: first as usize, count };
    let mirrored = case["mirror"].as_bool().ok_or("mirror is missing")?;
    Ok(Geometry { y: axis(height, number(case, "top")?), x: axis(width, number(case, "left")?), mirrored, warp: None })
}

fn resized_crop(case: &Value) -> Result<Geometry, String> {
    let [top, left, height, width] = numbers(&case["box"])?;
    let px = number(case, "px")? as usize;
    let axis = |start, length| Axis { start, length, resized: px, first: 0, count: px };
    Ok(Geometry { y: axis(top, height), x: axis(left, width), mirrored: false, warp: None })
}

fn affine(case: &Value) -> Result<Geometry, String> {
    let [height, width, _] = numbers(&case["size"])?;
    let warp = Warp {
        angle: number(case, "degrees")?.to_radians(),
        scale: number(case, "scale")?,
        shift_x: number(case, "right")? / width as f64,
        shift_y: number(case, "down")? / height as f64,
    };
    Ok(Geometry { y: Axis::whole(height), x: Axis::whole(width), mirrored: false, warp: Some(warp) })
}

/// Grey levels of the rendered picture within `most` of the case's, where it says `inside`; how far the furthest is.
fn levels(case: &Value, geometry: &Geometry, most: f32) -> Result<f32, String> {
    let (dims, pixels) = picture(case)?;
    let mut seen = vec![0.0; geometry.y.count * geometry.x.count * 3];
    render(&pixels, dims, geometry, &Levels::new(Normalise::default()), &mut seen);
    let theirs = case["levels"].as_array().ok_or("levels are missing")?;
    let ours: Vec<f32> = seen.iter().step_by(if dims.channels == 1 { 3 } else { 1 }).copied().collect();
    if ours.len() != theirs.len() {
        return Err(format!("{} levels here, {} there", ours.len(), theirs.len()));
    }
    let inside = case["inside"].as_str();
    let (mut furthest, mut held) = (0f32, 0);
    for (at, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        if inside.is_some_and(|i| i.as_bytes().get(at) != Some(&b'1')) {
            continue;
        }
        let (ours, theirs) = ((ours * 0.5 + 0.5) * 255.0, theirs.as_f64().ok_or("a level is no number")? as f32);
        furthest = furthest.max((ours - theirs).abs());
        held += 1;
        if ours.is_nan() || (ours - theirs).abs() > most {
            return Err(format!("level {at}: {ours} here, {theirs} there"));
        }
    }
    if held * 3 < theirs.len() { Err(format!("only {held} levels were compared")) } else { Ok(furthest) }
}

fn operation(case: &Value) -> Result<(), String> {
    let (dims, mut data) = picture(case)?;
    let name = case["name"].as_str().ok_or("name is missing")?;
    let (_, operation) = OPERATIONS.iter().find(|(known, _)| *known == name).ok_or("it is unknown")?;
    if ["auto_contrast", "equalize"].contains(&name) {
        data.iter_mut().for_each(|level| *level = 60 + *level / 3);
    }
    let magnitude = operation.magnitude(number(case, "m")? as u32, dims.height, dims.width);
    let theirs = number(case, "magnitude")?;
    if (magnitude - theirs).abs() > 1e-6 * theirs.abs() {
        return Err(format!("magnitude {magnitude} here, {theirs} there"));
    }
    let picture = Picture { height: dims.height, width: dims.width, data };
    let out = operation.apply(&picture, magnitude * number(case, "sign")?);
    let found: String = Sha256::digest(&out.data).iter().map(|b| format!("{b:02x}")).collect();
    let first: [usize; 9] = numbers(&case["first"])?;
    let ours: Vec<usize> = out.data.iter().take(9).map(|&v| v.into()).collect();
    if case["sha256"] != found { Err(format!("begins {ours:?} here, {first:?} there")) } else { Ok(()) }
}
