//! The kernels' sources, for NVRTC on a GPU and for a C compiler in tests.

/// In the order in which they are compiled: what every kernel begins with comes first.
pub const SOURCES: [&str; 8] = [
    include_str!("source/prelude.cu"),
    include_str!("source/norm.cu"),
    include_str!("source/standardise.cu"),
    include_str!("source/pool.cu"),
    include_str!("source/head.cu"),
    include_str!("source/optimizer.cu"),
    include_str!("source/image.cu"),
    include_str!("source/operate.cu"),
];

/// One program of all kernels, for f32 or bfloat16 activations.
pub fn program(narrow: bool) -> String {
    format!("#define NARROW {}\n{}", u8::from(narrow), SOURCES.concat())
}

/// The names of the kernels in a program.
pub fn kernels(program: &str) -> Vec<&str> {
    let lines = program.lines().filter_map(|line| line.strip_prefix("KERNEL("));
    lines.filter_map(|rest| rest.split_once(',').map(|(name, _)| name)).collect()
}
