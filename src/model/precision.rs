//! What activations are stored in, as a pipeline declares it.

use crate::nn::kernel;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What activations between the root and the head are stored in. Weights, statistics, sums,
/// features and logits are f32 in both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    #[default]
    F32,
    Bf16,
}

impl Precision {
    /// As pipelines spell it.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
        }
    }

    /// The family of inner loops that this process uses for it, as in records.
    pub fn kernel_name(self) -> String {
        match self {
            Precision::F32 => kernel::name().into(),
            Precision::Bf16 if kernel::name() == "avx512" && kernel::has_bf16() => "avx512 bf16".into(),
            Precision::Bf16 => format!("{} emulating bf16", kernel::name()),
        }
    }
}
