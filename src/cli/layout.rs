//! Columns of text, sizes and times as people read them.

/// Rows of cells in aligned columns, two spaces apart; columns in `right` are aligned to the right.
pub fn columns(rows: &[Vec<String>], right: &[usize]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|t| t.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (c, text) in row.iter().enumerate() {
            let space = " ".repeat(widths[c] - text.chars().count());
            let gap = if c == 0 { "" } else { "  " };
            if right.contains(&c) {
                line.push_str(&format!("{gap}{space}{text}"));
            } else {
                line.push_str(&format!("{gap}{text}{space}"));
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// `17 B`, `1.5 KiB`, `20 MiB`.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut size = n as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1023.5 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    if size < 9.95 { format!("{size:.1} {}", UNITS[unit]) } else { format!("{size:.0} {}", UNITS[unit]) }
}

/// `2026-11-22 21:16:05`, UTC, by the civil-from-days rule (Hinnant 2013).
pub fn time(unix_ms: u64) -> String {
    let seconds = unix_ms / 1000;
    let (days, second) = ((seconds / 86_400) as i64, seconds % 86_400);
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
}

/// Cut to a width, with `…` where something is left out.
pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_string();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_by_characters() {
        let rows = [["a", "1", "x"], ["äöü", "100", ""]].map(|r| r.map(String::from).to_vec());
        assert_eq!(columns(&rows, &[1]), "a      1  x\näöü  100\n");
        assert_eq!(columns(&[], &[]), "");
    }

    #[test]
    fn sizes_and_times_are_short() {
        let told = [0, 1023, 1024, 1536, 20 << 20, (1 << 30) - 1, 3 << 40].map(bytes);
        assert_eq!(told, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "20 MiB", "1.0 GiB", "3.0 TiB"]);
        assert_eq!(time(0), "1970-01-01 00:00:00");
        assert_eq!(time(951_782_400_000), "2000-02-29 00:00:00");
        assert_eq!(time(1_795_382_165_999), "2026-11-22 21:16:05");
        assert_eq!((cut("abc", 3), cut("abcd", 3)), ("abc".to_string(), "ab…".to_string()));
    }
}
