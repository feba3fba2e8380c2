//! DICOM transfer syntaxes that are not read, by name, and how to convert their files.
//!
//! Names are those of PS3.6, table A-1. What is not listed is left to the decoder.

/// An encoding of DICOM pixels that this program has no decoder for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unread {
    pub(super) name: &'static str,
    /// A program that writes the same image in an encoding that is read.
    pub(super) convert: &'static str,
}

const DCMTK: &str = "dcmconv +te IN OUT (DCMTK)";
const DCMTK_JPEG_LS: &str = "dcmdjpls IN OUT (DCMTK)";
const GDCM: &str = "gdcmconv --raw IN OUT (GDCM)";
const DCM4CHE: &str = "dcm4che's dcm2dcm, or pydicom with pylibjpeg: ds.decompress()";
const FRAMES: &str = "ffmpeg after extracting the video, one image a frame";

/// What a transfer syntax is called where it is not read.
pub(super) fn unread(uid: &str) -> Option<Unread> {
    let rest = uid.strip_prefix("1.2.840.10008.1.2.")?;
    let (name, convert) = match rest {
        "1.99" => ("Deflated Explicit VR Little Endian", DCMTK),
        "8.1" => ("Deflated Image Frame Compression", DCMTK),
        "4.80" => ("JPEG-LS Lossless", DCMTK_JPEG_LS),
        "4.81" => ("JPEG-LS Near-Lossless", DCMTK_JPEG_LS),
        "4.90" => ("JPEG 2000 Lossless", GDCM),
        "4.91" => ("JPEG 2000", GDCM),
        "4.92" | "4.93" => ("JPEG 2000 Part 2", GDCM),
        "4.110" | "4.111" | "4.112" => ("JPEG XL", DCM4CHE),
        "4.201" | "4.202" | "4.203" => ("High-Throughput JPEG 2000", DCM4CHE),
        "4.94" | "4.95" => ("JPIP Referenced", "fetch the images from the server that the file refers to"),
        _ if rest.strip_prefix("4.10").is_some_and(|n| n.len() == 1) => ("MPEG video", FRAMES),
        _ => return None,
    };
    Some(Unread { name, convert })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_read_has_a_name_and_what_is_read_has_none() {
        for (uid, name) in [
            ("1.2.840.10008.1.2.4.80", "JPEG-LS Lossless"),
            ("1.2.840.10008.1.2.4.91", "JPEG 2000"),
            ("1.2.840.10008.1.2.4.102", "MPEG video"),
            ("1.2.840.10008.1.2.4.201", "High-Throughput JPEG 2000"),
        ] {
            assert_eq!(unread(uid).map(|u| u.name), Some(name), "{uid}");
        }
        // Native, RLE, JPEG baseline and lossless.
        for uid in [
            "1.2.840.10008.1.2",
            "1.2.840.10008.1.2.1",
            "1.2.840.10008.1.2.5",
            "1.2.840.10008.1.2.4.50",
            "1.2.840.10008.1.2.4.70",
        ] {
            assert_eq!(unread(uid), None, "{uid}");
        }
    }
}
