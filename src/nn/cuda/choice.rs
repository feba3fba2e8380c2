//! Where a cell computes, as pipelines and the command line say it.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Once, OnceLock};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::inventory;
use super::op::Machine;
use crate::error::{Error, Result};

/// `auto`, `cpu`, `cuda`, or `cuda:N`. It decides the last digits of a result, never what is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Device {
    /// A GPU where the program was built with GPUs and there is one, else the CPU.
    #[default]
    Auto,
    Cpu,
    /// The GPUs that the cell holds, as `auto`; there must be one.
    Gpu,
    /// A GPU by its number, as CUDA counts those that it may see.
    Cuda(u32),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Auto => f.write_str("auto"),
            Device::Cpu => f.write_str("cpu"),
            Device::Gpu => f.write_str("cuda"),
            Device::Cuda(n) => write!(f, "cuda:{n}"),
        }
    }
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "auto" => Ok(Device::Auto),
            "cpu" => Ok(Device::Cpu),
            "cuda" => Ok(Device::Gpu),
            other => other
                .strip_prefix("cuda:")
                .and_then(|n| n.parse().ok())
                .map(Device::Cuda)
                .ok_or_else(|| format!("{other} is no device: expected auto, cpu, cuda or cuda:N")),
        }
    }
}

impl TryFrom<String> for Device {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        text.parse()
    }
}

impl From<Device> for String {
    fn from(device: Device) -> String {
        device.to_string()
    }
}

impl JsonSchema for Device {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Device".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^(auto|cpu|cuda|cuda:[0-9]+)$"})
    }
}

impl Device {
    /// The machine that it means, none for the CPU. `gpus` are the numbers of those that the cell holds, as
    /// `CUDA_VISIBLE_DEVICES` names them; `auto` takes the first of them.
    ///
    /// Where `auto` finds no GPU that works, it says why, once a process.
    ///
    /// # Errors
    /// A GPU that was named cannot be used; the hint says what to do.
    pub fn machine(self, gpus: &[u32]) -> Result<Option<Arc<dyn Machine>>> {
        match self {
            Device::Cpu => Ok(None),
            Device::Cuda(n) => inventory::open(n).map(Some).map_err(|e| named(n, e)),
            Device::Gpu => {
                let n = held(gpus, 0);
                inventory::open(n).map(Some).map_err(|e| named(n, e))
            }
            Device::Auto if !inventory::BUILT => Ok(None),
            Device::Auto => match inventory::open(held(gpus, 0)) {
                Ok(machine) => Ok(Some(machine)),
                Err(e) => {
                    static SAID: Once = Once::new();
                    let hint = e.hint().map_or(String::new(), |hint| format!(" ({hint})"));
                    SAID.call_once(|| eprintln!("note: computing on the CPU: {e}{hint}"));
                    Ok(None)
                }
            },
        }
    }

    /// The machines of the ranks of one training: the GPUs that the cell holds in turn, each with a queue of its own;
    /// `cuda:N` is shared by all. None for the CPU.
    ///
    /// # Errors
    /// As [`Device::machine`].
    pub fn machines(self, gpus: &[u32], ranks: usize) -> Result<Vec<Arc<dyn Machine>>> {
        let mut machines: Vec<_> = self.machine(gpus)?.into_iter().collect();
        for rank in 1..if machines.is_empty() { 0 } else { ranks } {
            let n = if let Device::Cuda(n) = self { n } else { held(gpus, rank) };
            machines.push(inventory::open_apart(n).map_err(|e| named(n, e))?);
        }
        Ok(machines)
    }

    /// GPUs that a cell of so many ranks holds while it computes there: one each, as far as there are.
    pub fn gpus(self, ranks: u32) -> u32 {
        // Asked for every cell of a plan, and the answer stays.
        static COUNT: OnceLock<u32> = OnceLock::new();
        let count = || *COUNT.get_or_init(|| inventory::count().unwrap_or(0));
        match self {
            Device::Cpu => 0,
            Device::Cuda(_) => count().min(1),
            Device::Auto | Device::Gpu => count().min(ranks.max(1)),
        }
    }
}

/// What CUDA calls the GPU of this rank, of those that a cell holds.
fn held(gpus: &[u32], rank: usize) -> u32 {
    gpus.get(rank % gpus.len().max(1)).map_or(0, |&number| place(number))
}

fn named(n: u32, e: Error) -> Error {
    let hint = e.hint().map(str::to_string);
    let error = Error::invalid(format!("cuda:{n}: {e}"));
    match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// What CUDA calls the GPU of this number: it counts those that `CUDA_VISIBLE_DEVICES` names.
fn place(number: u32) -> u32 {
    let visible = std::env::var("CUDA_VISIBLE_DEVICES").ok();
    visible.and_then(|named| nth(&named, number)).unwrap_or(number)
}

fn nth(named: &str, number: u32) -> Option<u32> {
    named.split(',').position(|name| name.trim().parse() == Ok(number)).map(|at| at as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_and_written_and_slips_are_refused() {
        for (text, device) in
            [("auto", Device::Auto), ("cpu", Device::Cpu), ("cuda", Device::Gpu), ("cuda:3", Device::Cuda(3))]
        {
            assert_eq!((text.parse(), device.to_string()), (Ok(device), text.to_string()));
            assert_eq!(serde_json::from_value::<Device>(serde_json::json!(text)).unwrap(), device);
        }
        for slip in ["gpu", "cuda:", "cuda:x", "cuda:-1"] {
            assert!(slip.parse::<Device>().unwrap_err().contains("auto, cpu, cuda or cuda:N"), "{slip}");
        }
        assert_eq!([0, 1, 2, 3].map(|rank| held(&[4, 7], rank)), [4, 7, 4, 7]);
        assert_eq!(held(&[], 3), 0);
        assert_eq!((nth("1,3", 3), nth("1,3", 0), nth("GPU-1", 1)), (Some(1), None, None));
    }

    #[test]
    fn a_program_without_gpus_says_how_to_build_one() {
        assert!(Device::Cpu.machine(&[]).unwrap().is_none());
        if !inventory::BUILT {
            assert!(Device::Auto.machine(&[0]).unwrap().is_none());
            let e = Device::Cuda(1).machine(&[]).err().unwrap();
            assert!(e.to_string().starts_with("cuda:1: this program was built without GPUs"), "{e}");
            assert!(e.hint().unwrap().contains("--features cuda"));
            assert_eq!((Device::Cuda(1).gpus(1), Device::Auto.gpus(4)), (0, 0));
            assert!(Device::Auto.machines(&[0, 1], 2).unwrap().is_empty());
            assert!(Device::Gpu.machines(&[3, 5], 2).is_err());
        }
    }
}
