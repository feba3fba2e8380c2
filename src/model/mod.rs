//! The networks: the published study's BiT ResNet-v2 and where its weights come from.

pub mod bit;
mod body;
pub mod config;
mod device;
pub mod head;
mod images;
mod precision;
pub mod weights;

pub use bit::Bit;
pub use body::Keep;
pub use config::BitConfig;
pub use device::Beside;
pub use head::HeadInit;
pub use images::Images;
pub use precision::Precision;

#[cfg(test)]
mod micro_batches;
#[cfg(test)]
#[path = "../../tests/reference/model.rs"]
mod reference;

#[cfg(test)]
mod tests {
    #[test]
    fn the_published_model_is_met() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference/bit_model.json");
        let json = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        for line in super::reference::check(&json, None).unwrap_or_else(|problem| panic!("{problem}")) {
            println!("{line}");
        }
    }
}
