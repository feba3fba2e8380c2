//! Labelled images for training and inference, and the filling of batches from them.
//!
//! Bytes are read where they lie (mapped shards), turned into the model's input in one pass, in parallel
//! over images. What a batch holds depends on its draws alone, never on threads. Which examples come when
//! is the trainer's business, not this file's.

use std::{borrow::Cow, sync::Arc};

use arrow::array::Array;
use rayon::prelude::*;

use super::{
    augment::{Augment, View},
    dataset::{Dataset, Task},
    image::ImageShards,
    normalise::{Levels, Normalise},
    randaugment::{Picture, RandAugment},
    sampling::{Geometry, ImageDims, render},
};
use crate::{
    error::{Error, Result},
    nn::looks::Looks,
    random::stream::Stream,
};

/// Where pixels come from: shards of images of one size, or of encoded ones.
pub trait PixelSource: Send + Sync {
    /// The size that every image has as it is stored, or is brought to.
    fn dims(&self) -> ImageDims;
    /// The bytes of one image of that size: height · width · channels.
    fn pixels(&self, shard: u32, slot: u32) -> Result<Cow<'_, [u8]>>;
    /// The image at the resolution of its file; `None` where nothing but [`PixelSource::pixels`] is kept.
    fn original(&self, _shard: u32, _slot: u32) -> Result<Option<(ImageDims, Vec<u8>)>> {
        Ok(None)
    }
}

impl PixelSource for ImageShards {
    fn dims(&self) -> ImageDims {
        let size = self.size();
        ImageDims { height: size.height as usize, width: size.width as usize, channels: size.channels as usize }
    }

    fn pixels(&self, shard: u32, slot: u32) -> Result<Cow<'_, [u8]>> {
        self.get(shard, slot).map(Cow::Borrowed)
    }
}

/// Images in memory, as one shard.
pub struct MemoryPixels {
    dims: ImageDims,
    bytes: Vec<u8>,
}

impl MemoryPixels {
    /// `bytes` holds whole images one after the other.
    pub fn new(dims: ImageDims, bytes: Vec<u8>) -> Result<Self> {
        let one = dims.height * dims.width * dims.channels;
        if one == 0 || !bytes.len().is_multiple_of(one) {
            return Err(Error::invalid(format!("{} bytes are no whole images of {dims:?}", bytes.len())));
        }
        Ok(MemoryPixels { dims, bytes })
    }

    pub fn len(&self) -> usize {
        self.bytes.len() / (self.dims.height * self.dims.width * self.dims.channels)
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

impl PixelSource for MemoryPixels {
    fn dims(&self) -> ImageDims {
        self.dims
    }

    fn pixels(&self, shard: u32, slot: u32) -> Result<Cow<'_, [u8]>> {
        let one = self.dims.height * self.dims.width * self.dims.channels;
        let from = slot as usize * one;
        let bytes = self.bytes.get(from..from + one).filter(|_| shard == 0);
        bytes.map(Cow::Borrowed).ok_or_else(|| {
            Error::invalid(format!("no image at shard {shard}, slot {slot}: there are {} in shard 0", self.len()))
        })
    }
}

/// What is known of each example.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Labels {
    /// One of `classes`; -1 where it is unknown, which training refuses.
    Class { classes: usize, y: Vec<i32> },
    /// `labels` findings an example, row by row: 1 present, 0 absent, -1 unknown.
    Multi { labels: usize, y: Vec<i8> },
}

impl Labels {
    pub fn len(&self) -> usize {
        match self {
            Labels::Class { y, .. } => y.len(),
            Labels::Multi { labels, y } => y.len() / (*labels).max(1),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Outputs of a model for these labels.
    pub fn outputs(&self) -> usize {
        match self {
            Labels::Class { classes, .. } => *classes,
            Labels::Multi { labels, .. } => *labels,
        }
    }

    /// The class or label columns of a dataset; null becomes -1.
    pub fn of(dataset: &Dataset) -> Result<Self> {
        match dataset.task() {
            Task::Single(names) => {
                let column = dataset.classes().ok_or_else(|| Error::invalid("the dataset has no class column"))?;
                Ok(Labels::Class { classes: names.len(), y: column.iter().map(|c| c.unwrap_or(-1)).collect() })
            }
            Task::Multi(names) => {
                let mut y = vec![-1; dataset.rows() * names.len()];
                for (at, name) in names.iter().enumerate() {
                    let column = dataset.label(name);
                    let column = column.ok_or_else(|| Error::invalid(format!("the dataset has no label {name}")))?;
                    for (row, value) in column.iter().enumerate() {
                        y[row * names.len() + at] = value.unwrap_or(-1);
                    }
                }
                Ok(Labels::Multi { labels: names.len(), y })
            }
        }
    }

    /// These rows in this order; a row that is not there is an error.
    pub fn take(&self, rows: &[u32]) -> Result<Self> {
        let n = self.len();
        if let Some(row) = rows.iter().find(|&&r| r as usize >= n) {
            return Err(Error::invalid(format!("no example {row}: there are {n}")));
        }
        Ok(match self {
            Labels::Class { classes, y } => {
                Labels::Class { classes: *classes, y: rows.iter().map(|&r| y[r as usize]).collect() }
            }
            Labels::Multi { labels, y } => Labels::Multi {
                labels: *labels,
                y: rows.iter().flat_map(|&r| y[r as usize * labels..][..*labels].iter().copied()).collect(),
            },
        })
    }
}

/// Images with their labels.
#[derive(Clone)]
pub struct Examples {
    source: Arc<dyn PixelSource>,
    places: Vec<(u32, u32)>,
    labels: Labels,
    levels: Levels,
}

/// One look at one example in training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    pub example: u32,
    pub epoch: u64,
    /// Names the look within its epoch: the example itself, or its place where examples are drawn repeatedly.
    pub number: u64,
}

/// The random views of training.
pub struct TrainView<'a> {
    pub view: &'a View,
    pub augment: &'a Augment,
    /// After crop and flip, where it is asked for.
    pub rand_augment: Option<&'a RandAugment>,
    pub seed: u64,
}

impl TrainView<'_> {
    /// What RandAugment's operations on one look are drawn from.
    fn operations_stream(&self, draw: &Draw) -> Stream {
        Stream::new(self.seed, "rand_augment", draw.epoch, draw.number)
    }
}

impl Examples {
    /// `places` are (shard, slot) of each example in `source`; `labels` has one row for each.
    pub fn new(source: Arc<dyn PixelSource>, places: Vec<(u32, u32)>, labels: Labels) -> Result<Self> {
        let dims = source.dims();
        if !matches!(dims.channels, 1 | 3) || dims.height == 0 || dims.width == 0 {
            return Err(Error::invalid(format!("images must have 1 or 3 channels and some pixels, not {dims:?}")));
        }
        let (known, lowest) = match &labels {
            Labels::Class { classes, y } => (y.iter().all(|&c| c < *classes as i32), y.iter().min().map(|&c| c >= -1)),
            Labels::Multi { y, .. } => (y.iter().all(|&l| l <= 1), y.iter().min().map(|&l| l >= -1)),
        };
        if !known || lowest == Some(false) {
            return Err(Error::invalid(format!("a label is outside of its {} values", labels.outputs())));
        }
        if let Labels::Multi { labels, y } = &labels
            && (*labels == 0 || y.len() != labels * places.len())
        {
            return Err(Error::invalid(format!("{} labels for {} images of {labels} each", y.len(), places.len())));
        }
        if labels.len() != places.len() {
            return Err(Error::invalid(format!("{} labels for {} images", labels.len(), places.len())));
        }
        Ok(Examples { source, places, labels, levels: Levels::new(Normalise::default()) })
    }

    /// The same examples, whose pixels are scaled so.
    pub fn normalised(self, normalise: Normalise) -> Self {
        Examples { levels: Levels::new(normalise), ..self }
    }

    /// The rows of a dataset that has `shard` and `slot` columns, over its images. Null labels are unknown.
    pub fn of(source: Arc<dyn PixelSource>, dataset: &Dataset) -> Result<Self> {
        let column = |name: &str| {
            let found = dataset.integers(name).filter(|c| c.null_count() == 0);
            found.ok_or_else(|| Error::invalid(format!("the dataset has no {name} for each of its images")))
        };
        let places = column("shard")?.values().iter().copied().zip(column("slot")?.values().iter().copied()).collect();
        Self::new(source, places, Labels::of(dataset)?)
    }

    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Size of the stored images.
    pub fn dims(&self) -> ImageDims {
        self.source.dims()
    }

    /// These examples in this order, over the same images.
    pub fn take(&self, rows: &[u32]) -> Result<Self> {
        let labels = self.labels.take(rows)?;
        let places = rows.iter().map(|&r| self.places[r as usize]).collect();
        Ok(Examples { source: self.source.clone(), places, labels, levels: self.levels.clone() })
    }

    /// The same images with other labels.
    pub fn relabelled(&self, labels: Labels) -> Result<Self> {
        let levels = self.levels.clone();
        Ok(Examples { levels, ..Self::new(self.source.clone(), self.places.clone(), labels)? })
    }

    fn place(&self, example: u32) -> Result<(u32, u32)> {
        let place = self.places.get(example as usize).copied();
        place.ok_or_else(|| Error::invalid(format!("bug: no example {example} of {}", self.places.len())))
    }

    fn bytes(&self, example: u32) -> Result<Cow<'_, [u8]>> {
        let (shard, slot) = self.place(example)?;
        let (bytes, dims) = (self.source.pixels(shard, slot)?, self.dims());
        if bytes.len() != dims.height * dims.width * dims.channels {
            return Err(Error::invalid(format!(
                "image at shard {shard}, slot {slot} has {} bytes, not {dims:?}",
                bytes.len()
            )));
        }
        Ok(bytes)
    }

    /// The image to look at: that of the file where it is kept and `whole` asks for it, else the stored one.
    fn image(&self, example: u32, whole: bool) -> Result<(ImageDims, Cow<'_, [u8]>)> {
        let (shard, slot) = self.place(example)?;
        if whole && let Some((dims, bytes)) = self.source.original(shard, slot)? {
            return Ok((dims, Cow::Owned(bytes)));
        }
        Ok((self.dims(), self.bytes(example)?))
    }

    /// The fixed views of `examples` into `out`: n · height · width · 3, normalised.
    pub fn fill(&self, examples: &[u32], view: &View, out: &mut Vec<f32>) -> Result<()> {
        self.each(examples.len(), view, out, |k, image, _| {
            let (dims, bytes) = self.image(examples[k], *view != View::Stored)?;
            render(&bytes, dims, &view.geometry(dims), &self.levels, image);
            Ok(())
        })
    }

    /// Random views of training. With `mixed`, each image is `share` of itself and the rest of its partner.
    pub fn fill_train(
        &self,
        draws: &[Draw],
        mixed: Option<(&[Draw], f32)>,
        how: &TrainView,
        out: &mut Vec<f32>,
    ) -> Result<()> {
        let look = |draw: &Draw, image: &mut [f32]| -> Result<()> {
            let (dims, bytes, geometry) = self.look(draw, how)?;
            render(&bytes, dims, &geometry, &self.levels, image);
            if let Some(operations) = how.rand_augment {
                operate(operations, how.view.size(self.dims()), &self.levels, image, &mut how.operations_stream(draw));
            }
            Ok(())
        };
        self.each(draws.len(), how.view, out, |k, image, other| {
            look(&draws[k], image)?;
            if let Some((partners, share)) = mixed {
                other.resize(image.len(), 0.0);
                look(&partners[k], other)?;
                for (a, b) in image.iter_mut().zip(other.iter()) {
                    *a = share * *a + (1.0 - share) * b;
                }
            }
            Ok(())
        })
    }

    /// One image with how it is looked at.
    fn look(&self, draw: &Draw, how: &TrainView) -> Result<(ImageDims, Cow<'_, [u8]>, Geometry)> {
        // Crops are taken from the whole picture where it is kept; what is looked at as stored is not.
        let crops = matches!(how.augment, Augment::Crop { .. } | Augment::RandomResizedCrop(_));
        let whole = crops || *how.view != View::Stored;
        let stored = self.dims();
        let mut stream = Stream::new(how.seed, "augment", draw.epoch, draw.number);
        let (dims, bytes) = self.image(draw.example, whole)?;
        let sized = View::Whole { px: stored.height as u32 };
        let view = if *how.view == View::Stored && dims != stored { &sized } else { how.view };
        Ok((dims, bytes, how.augment.geometry(view, dims, &mut stream)))
    }

    /// What [`Examples::fill_train`] renders, for a device to render: draws first, then the partners.
    pub fn looks(&self, draws: &[Draw], partners: &[Draw], how: &TrainView) -> Result<Looks> {
        let (height, width) = how.view.size(self.dims());
        let all: Vec<&Draw> = draws.iter().chain(partners).collect();
        let found = all.par_iter().map(|draw| self.look(draw, how)).collect::<Result<Vec<_>>>()?;
        let mut looks = Looks::new(draws.len(), (height, width), &self.levels);
        for (dims, bytes, geometry) in &found {
            looks.push(*dims, bytes, geometry);
        }
        if let Some(operations) = how.rand_augment {
            let drawn = all.iter().map(|draw| operations.draw(height, width, &mut how.operations_stream(draw)));
            looks.operate(&drawn.collect::<Vec<_>>());
        }
        Ok(looks)
    }

    /// Sizes `out` for `n` images and fills it in parallel; the closure gets (index, image, scratch).
    fn each(
        &self,
        n: usize,
        view: &View,
        out: &mut Vec<f32>,
        one: impl Fn(usize, &mut [f32], &mut Vec<f32>) -> Result<()> + Sync,
    ) -> Result<()> {
        let (h, w) = view.size(self.dims());
        let pixels = h * w * 3;
        out.resize(n * pixels, 0.0);
        out.par_chunks_exact_mut(pixels)
            .enumerate()
            .map_init(Vec::new, |scratch, (k, image)| one(k, image, scratch))
            .collect::<Result<()>>()
    }
}

/// RandAugment works on grey levels: the input goes back to them and comes again.
fn operate(
    operations: &RandAugment,
    (height, width): (usize, usize),
    levels: &Levels,
    image: &mut [f32],
    stream: &mut Stream,
) {
    let data = image.iter().enumerate().map(|(i, &v)| levels.level(i % 3, v)).collect();
    let picture = operations.apply(Picture { height, width, data }, stream);
    let grey_levels = picture.data.iter().enumerate();
    image.iter_mut().zip(grey_levels).for_each(|(v, (i, &level))| *v = levels.table[i % 3][usize::from(level)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn six() -> Examples {
        let dims = ImageDims { height: 2, width: 3, channels: 1 };
        let bytes = (0..36).map(|i| i * 7).collect();
        let source = Arc::new(MemoryPixels::new(dims, bytes).unwrap());
        let labels = Labels::Class { classes: 2, y: vec![0, 1, 0, 1, 0, -1] };
        Examples::new(source, (0..6).map(|i| (0, i)).collect(), labels).unwrap()
    }

    #[test]
    fn a_batch_does_not_depend_on_threads_or_on_its_neighbours() {
        let examples = six();
        let how = TrainView {
            view: &View::Stored,
            augment: &Augment::RandomResizedCrop(Default::default()),
            rand_augment: None,
            seed: 5,
        };
        let draws: Vec<Draw> = (0..6).map(|i| Draw { example: i, epoch: 2, number: u64::from(i) }).collect();
        let fill = |threads, draws: &[Draw]| {
            let mut out = Vec::new();
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| examples.fill_train(draws, None, &how, &mut out)).unwrap();
            out
        };
        let all = fill(1, &draws);
        assert_eq!(all, fill(3, &draws));
        assert_eq!(all[18 * 3..18 * 5], fill(2, &draws[3..5])[..]);
        let later: Vec<Draw> = draws.iter().map(|d| Draw { epoch: 3, ..*d }).collect();
        assert_ne!(all, fill(1, &later));
    }

    #[test]
    fn operations_come_after_the_crop_and_keep_grey_levels() {
        let examples = six();
        let view = |rand_augment| TrainView { view: &View::Stored, augment: &Augment::Flip, rand_augment, seed: 5 };
        let draws: Vec<Draw> = (0..6).map(|i| Draw { example: i, epoch: 1, number: u64::from(i) }).collect();
        let (mut plain, mut same, mut strong) = (Vec::new(), Vec::new(), Vec::new());
        examples.fill_train(&draws, None, &view(None), &mut plain).unwrap();
        let operations = RandAugment { n: 2, m: 20 };
        examples.fill_train(&draws, None, &view(Some(&operations)), &mut strong).unwrap();
        assert_ne!(plain, strong);
        assert!(strong.iter().all(|v| examples.levels.table[0].contains(v)));
        examples.fill_train(&draws, None, &view(Some(&operations)), &mut same).unwrap();
        assert_eq!(same, strong);
    }

    #[test]
    fn another_scaling_changes_what_is_seen_and_nothing_else() {
        let (plain, scaled) = (six(), six().normalised(Normalise::imagenet()));
        let (mut a, mut b, mut part) = (Vec::new(), Vec::new(), Vec::new());
        plain.fill(&[0, 3], &View::Stored, &mut a).unwrap();
        scaled.fill(&[0, 3], &View::Stored, &mut b).unwrap();
        let levels = Levels::new(Normalise::imagenet());
        for (i, (a, b)) in a.iter().zip(&b).enumerate() {
            let level = ((a * 0.5 + 0.5) * 255.0).round() as usize;
            assert_eq!(*b, levels.table[i % 3][level], "at {i}");
        }
        scaled.take(&[3]).unwrap().fill(&[0], &View::Stored, &mut part).unwrap();
        assert_eq!(part, b[18..], "examples keep their scaling when they are taken");
    }

    #[test]
    fn mixing_is_a_weighted_mean_of_two_looks() {
        let examples = six();
        let how = TrainView { view: &View::Stored, augment: &Augment::Flip, rand_augment: None, seed: 5 };
        let draw = |i: u32| [Draw { example: i, epoch: 0, number: u64::from(i) }];
        let (mut a, mut b, mut m) = (Vec::new(), Vec::new(), Vec::new());
        examples.fill_train(&draw(1), None, &how, &mut a).unwrap();
        examples.fill_train(&draw(4), None, &how, &mut b).unwrap();
        examples.fill_train(&draw(1), Some((&draw(4), 0.75)), &how, &mut m).unwrap();
        for ((a, b), m) in a.iter().zip(&b).zip(&m) {
            assert_eq!(*m, 0.75 * a + 0.25 * b);
        }
    }

    #[test]
    fn a_dataset_keeps_its_unknowns_and_places() {
        use arrow::array::UInt32Array;

        use crate::data::dataset::Columns;
        let columns = Columns {
            image: ["a", "b", "c"].map(String::from).to_vec(),
            dataset: "toy".into(),
            labels: vec![("x".into(), vec![Some(1), None, Some(0)]), ("y".into(), vec![None, Some(1), Some(1)])],
            ..Default::default()
        };
        let bare = columns.build().unwrap();
        let place = |values: Vec<u32>| Arc::new(UInt32Array::from(values));
        let placed = bare.with_column("shard", place(vec![0; 3])).unwrap();
        let placed = placed.with_column("slot", place(vec![4, 2, 5])).unwrap();
        let source = six().source;
        let examples = Examples::of(source.clone(), &placed).unwrap();
        assert_eq!(examples.labels(), &Labels::Multi { labels: 2, y: vec![1, -1, -1, 1, 0, 1] });
        assert_eq!(examples.bytes(1).unwrap()[0], 12 * 7);
        let e = Examples::of(source, &bare).err().unwrap().to_string();
        assert!(e.contains("no shard"), "{e}");
    }

    #[test]
    fn wrong_inputs_are_refused_by_name() {
        let examples = six();
        assert_eq!(examples.take(&[5, 0]).unwrap().labels(), &Labels::Class { classes: 2, y: vec![-1, 0] });
        assert!(examples.take(&[6]).is_err());
        let again = |labels| Examples::new(examples.source.clone(), vec![(0, 0)], labels).is_err();
        assert!(again(Labels::Class { classes: 2, y: vec![2] }));
        assert!(again(Labels::Class { classes: 2, y: vec![0, 1] }));
        assert!(again(Labels::Multi { labels: 2, y: vec![0] }));
        let stray = Examples::new(examples.source.clone(), vec![(1, 0)], Labels::Class { classes: 2, y: vec![0] });
        let e = stray.unwrap().fill(&[0], &View::Stored, &mut Vec::new()).unwrap_err();
        assert!(e.to_string().contains("shard 1, slot 0"), "{e}");
    }
}
