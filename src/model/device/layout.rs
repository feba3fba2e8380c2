//! Where a network's weights lie on a device: see [`crate::nn::cuda::weight`] for the order.

use crate::model::bit::Skeleton;
use crate::nn::cuda::weight::{Rows, padded};

/// Alignment of each convolution's weights as they are read, in values.
const HAT_ALIGN: usize = 128;

/// Offsets of every parameter, in values.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Where each parameter begins among the master weights.
    pub starts: Vec<usize>,
    /// Of each parameter, whether it is standardised and how.
    rows: Vec<Option<Rows>>,
    /// Master weights in all.
    pub len: usize,
    /// Values that convolutions read, in all.
    pub hat_len: usize,
    /// Standardised rows in all.
    pub row_count: usize,
}

impl Layout {
    pub fn new(net: &Skeleton<'_>, narrow: bool) -> Self {
        let mut starts = Vec::with_capacity(net.parameters.len());
        let mut len = 0;
        for p in net.parameters {
            starts.push(len);
            len += p.count();
        }
        let mut layout = Layout { rows: vec![None; starts.len()], starts, len, hat_len: 0, row_count: 0 };
        let units = net.units.iter().flat_map(|u| [Some(u.conv1), Some(u.conv2), Some(u.conv3), u.downsample]);
        for conv in std::iter::once(Some(net.root)).chain(units).flatten() {
            let rows = Rows {
                start: layout.starts[conv.weight],
                hat: layout.hat_len.next_multiple_of(HAT_ALIGN),
                first: layout.row_count,
                outputs: conv.conv.outputs,
                taps: conv.conv.taps(),
                inputs: conv.conv.inputs,
                padded: padded(conv.conv.inputs, narrow),
            };
            layout.hat_len = rows.hat + rows.hat_len();
            layout.row_count += rows.outputs;
            layout.rows[conv.weight] = Some(rows);
        }
        layout
    }

    /// The rows of a standardised convolution's weights.
    pub fn rows(&self, parameter: usize) -> Rows {
        self.rows[parameter].expect("bug: weights that are not standardised have no rows")
    }

    /// The table that standardising all weights reads.
    pub fn table(&self) -> Vec<u64> {
        self.rows.iter().flatten().flat_map(Rows::table).collect()
    }
}
