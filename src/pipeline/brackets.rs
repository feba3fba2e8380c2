//! Where a bracket was opened that nothing closes, for the message on a file that is not YAML: the parser names the
//! place where it noticed, which may be lines further.
//!
//! It knows as much of YAML as that takes. In braces every bracket counts; outside of them one that begins a value;
//! none in quotes, comments and blocks of text.

/// A bracket without its other half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    /// `{` or `[`.
    pub sign: char,
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
}

impl Open {
    pub fn closing(self) -> char {
        if self.sign == '{' { '}' } else { ']' }
    }
}

/// The innermost bracket that is open before a place (line and column from 1), unless what follows closes it: then
/// something else is wrong.
pub fn open_before(text: &str, line: u32, column: u32) -> Option<Open> {
    let mut open: Vec<Open> = Vec::new();
    // How many were open at the place.
    let mut depth = None;
    let mut quote: Option<char> = None;
    // Lines indented further than this belong to a block of text (`|`, `>`).
    let mut block: Option<usize> = None;
    for (number, content) in (1u32..).zip(text.lines()) {
        let indent = content.chars().take_while(|c| *c == ' ').count();
        if block.is_some_and(|of| indent > of || content.trim().is_empty()) {
            continue;
        }
        block = None;
        // What stands before, spaces left out; and whether a space came last.
        let (mut before, mut spaced) = (None, true);
        let mut characters = (1u32..).zip(content.chars()).peekable();
        while let Some((at, c)) = characters.next() {
            if depth.is_none() && (number, at) >= (line, column) {
                depth = Some(open.len());
            }
            if let Some(sign) = quote {
                if sign == '"' && c == '\\' {
                    characters.next();
                } else if c == sign {
                    // Two single quotes are one that is meant.
                    match sign == '\'' && characters.peek().is_some_and(|(_, next)| *next == '\'') {
                        true => drop(characters.next()),
                        false => quote = None,
                    }
                }
                (before, spaced) = (Some(c), false);
                continue;
            }
            let begins = before.is_none_or(|b| matches!(b, ':' | '-' | '?' | ',' | '[' | '{'));
            match c {
                '#' if spaced => break,
                '"' | '\'' if begins => quote = Some(c),
                '{' | '[' if begins || !open.is_empty() => open.push(Open { sign: c, line: number, column: at }),
                '}' | ']' => {
                    let innermost = open.pop();
                    if depth.is_some_and(|depth| open.len() < depth) {
                        return innermost.filter(|innermost| innermost.closing() != c);
                    }
                }
                '|' | '>' if begins && open.is_empty() => block = Some(indent),
                _ => {}
            }
            spaced = c.is_whitespace();
            if !spaced {
                before = Some(c);
            }
        }
    }
    match depth {
        Some(depth) => open.get(depth.checked_sub(1)?).copied(),
        None => open.pop(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, line: u32, column: u32) -> Option<(char, u32, u32)> {
        open_before(text, line, column).map(|open| (open.sign, open.line, open.column))
    }

    #[test]
    fn the_innermost_open_bracket_is_found() {
        assert_eq!(found("a: { b: 1\nc: 2\n", 2, 1), Some(('{', 1, 4)));
        assert_eq!(found("a: { b: [1, 2 }\n", 1, 15), Some(('[', 1, 9)));
        assert_eq!(found("a: { b: [1, 2] }\nc: 2\n", 2, 1), None);
        assert_eq!(found("- [x\n- y", 9, 1), Some(('[', 1, 3)));
        assert_eq!(found("a: [b\nc: 1\nd: { e\n", 2, 2), Some(('[', 1, 4)));
        // What is closed further on is not what is wrong.
        assert_eq!(found("a: { b: c: d }\n", 1, 10), None);
        assert_eq!(found("a: { b: { c: d\n  e: 1 } }\n", 2, 3), None);
        assert_eq!(found("a: { b: [c: d }\n", 1, 11), Some(('[', 1, 9)));
    }

    #[test]
    fn brackets_that_are_text_do_not_count() {
        for text in [
            "a: echo {b [c\n",
            "a: \"{ [ \\\" {\"\n",
            "a: '{ it''s ['\n",
            "a: 1 # {\n",
            "a: |\n  if { [\n\n  x {\nb: >-\n  {\n",
            "a: don't { do\n",
        ] {
            assert_eq!(found(text, 99, 1), None, "{text}");
        }
        // Within braces a bracket always counts, and a quote that is open keeps what follows.
        assert_eq!(found("a: { b: c{\n", 9, 1), Some(('{', 1, 10)));
        assert_eq!(found("a: { b: \"c\n } ]\n", 9, 1), Some(('{', 1, 4)));
    }
}
