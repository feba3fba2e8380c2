pub struct SourceIndex {}
