//! Python pickles read as data, never executed: numbers, text, lists, dictionaries and numpy arrays.
//!
//! A pickle is a program for a stack machine that may call any function of Python. This reader knows the
//! instructions that build plain values (protocols 2 to 5) and three functions by name, which it does not call but
//! imitates; every other function ends the reading with its name.
//!
//! | function | becomes |
//! |---|---|
//! | `numpy.core.multiarray._reconstruct` (and `numpy._core`) | an array, filled by its state |
//! | `numpy.dtype` | the type's code, `u1` |
//! | `_codecs.encode` | the bytes, as Python 3 writes them in protocol 2 |
//!
//! [`Pickle::read_around_code`] keeps every function, and what it would make, as a name with arguments, for files in
//! which plain values stand beside them (PyTorch's checkpoints).
//!
//! Values refer to each other by number, so that no depth of nesting can exhaust the stack, and what is copied is
//! bounded by the size of the file.

/// Number of a value in its [`Pickle`].
pub type Id = usize;

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// Text or bytes; Python 2 does not tell them apart.
    Bytes(Vec<u8>),
    List(Vec<Id>),
    Tuple(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Array(Array),
    /// One of the functions above, before it is called.
    Function(&'static str),
    /// A numpy type by its code.
    Type(String),
    /// A function or class by its full name; only around code.
    Global(String),
    /// What a call of it would make: the function and its arguments; only around code.
    Made(Id, Id),
    /// A reference to something outside of the pickle, by that; only around code.
    Outside(Id),
}

/// A numpy array in C order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Array {
    pub shape: Vec<usize>,
    /// numpy's code: `u1` is uint8.
    pub code: String,
    pub data: Vec<u8>,
}

/// A whole pickle.
#[derive(Debug)]
pub struct Pickle {
    values: Vec<Value>,
    root: Id,
}

const FUNCTIONS: [(&str, &str, &str); 5] = [
    ("numpy.core.multiarray", "_reconstruct", "array"),
    ("numpy._core.multiarray", "_reconstruct", "array"),
    ("numpy", "ndarray", "class"),
    ("numpy", "dtype", "type"),
    ("_codecs", "encode", "encode"),
];

impl Pickle {
    /// Reads one pickle of protocol 2 to 5.
    ///
    /// # Errors
    /// In words: an instruction or function that is not among those above, or bytes that end early.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        Self::read_as(bytes, false)
    }

    /// As [`Self::read`], but functions stay as their names, and what they would make as calls of them.
    pub fn read_around_code(bytes: &[u8]) -> Result<Self, String> {
        Self::read_as(bytes, true)
    }

    fn read_as(bytes: &[u8], around_code: bool) -> Result<Self, String> {
        if !matches!(bytes, [0x80, 2..=5, ..]) {
            return Err("not a pickle of protocol 2 to 5".into());
        }
        let machine = Machine {
            bytes,
            around_code,
            at: 0,
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: Vec::new(),
            copied: 0,
        };
        machine.run()
    }

    pub fn root(&self) -> &Value {
        &self.values[self.root]
    }

    pub fn value(&self, id: Id) -> &Value {
        &self.values[id]
    }

    /// A value of the outermost dictionary.
    pub fn entry(&self, key: &str) -> Option<&Value> {
        let Value::Dict(entries) = self.root() else { return None };
        // Of a key that was set twice the last holds.
        let found =
            entries.iter().rev().find(|(k, _)| matches!(&self.values[*k], Value::Bytes(b) if b == key.as_bytes()));
        found.map(|(_, v)| &self.values[*v])
    }

    /// A list of whole numbers.
    pub fn integers(&self, value: &Value) -> Option<Vec<i64>> {
        let Value::List(items) = value else { return None };
        items.iter().map(|&i| if let Value::Int(n) = self.values[i] { Some(n) } else { None }).collect()
    }

    /// A list of texts.
    pub fn texts(&self, value: &Value) -> Option<Vec<String>> {
        let Value::List(items) = value else { return None };
        let text = |i: &Id| match &self.values[*i] {
            Value::Bytes(b) => String::from_utf8(b.clone()).ok(),
            _ => None,
        };
        items.iter().map(text).collect()
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    around_code: bool,
    /// Bytes of arrays and items of arguments that were copied so far.
    copied: usize,
    at: usize,
    values: Vec<Value>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: Vec<Option<Id>>,
}

type Step<T> = Result<T, String>;

impl<'a> Machine<'a> {
    fn take(&mut self, n: usize) -> Step<&'a [u8]> {
        let end = self.at.checked_add(n).filter(|&e| e <= self.bytes.len());
        let end = end.ok_or_else(|| format!("it ends early, at byte {}", self.at))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    /// A little-endian number of `n` bytes, at most 8.
    fn number(&mut self, n: usize) -> Step<u64> {
        Ok(self.take(n)?.iter().rev().fold(0, |v, &b| v << 8 | u64::from(b)))
    }

    fn text(&mut self, length_bytes: usize) -> Step<Value> {
        let n = self.number(length_bytes)?;
        Ok(Value::Bytes(self.take(usize::try_from(n).unwrap_or(usize::MAX))?.to_vec()))
    }

    fn line(&mut self) -> Step<String> {
        let rest = &self.bytes[self.at..];
        let n = rest.iter().position(|&b| b == b'\n').ok_or("it ends early")?;
        let line = String::from_utf8_lossy(self.take(n)?).into_owned();
        self.at += 1;
        Ok(line)
    }

    fn push(&mut self, value: Value) {
        self.values.push(value);
        self.stack.push(self.values.len() - 1);
    }

    fn pop(&mut self) -> Step<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(format!("its stack is empty at byte {}", self.at));
        }
        self.stack.pop().ok_or_else(|| "its stack is empty".to_string())
    }

    /// Everything above the last mark.
    fn marked(&mut self) -> Step<Vec<Id>> {
        let mark = self.marks.pop().ok_or_else(|| format!("no mark at byte {}", self.at))?;
        Ok(self.stack.split_off(mark))
    }

    fn last(&self) -> Step<Id> {
        self.stack.last().copied().ok_or_else(|| "its stack is empty".to_string())
    }

    /// Refuses what refers to one large value again and again.
    fn copies(&mut self, n: usize) -> Step<()> {
        self.copied = self.copied.saturating_add(n);
        // Honest files copy each byte once.
        if self.copied > 2 * self.bytes.len() + 1024 {
            return Err("its arrays have more bytes than the file".into());
        }
        Ok(())
    }

    fn tuple(&mut self, n: usize) -> Step<()> {
        let mut items = (0..n).map(|_| self.pop()).collect::<Step<Vec<Id>>>()?;
        items.reverse();
        self.push(Value::Tuple(items));
        Ok(())
    }

    fn remember(&mut self, at: u64) -> Step<()> {
        // Every remembered value was pushed by an instruction, so no honest number exceeds the file's length.
        let at = usize::try_from(at).ok().filter(|&at| at <= self.bytes.len()).ok_or("a memo number out of range")?;
        if self.memo.len() <= at {
            self.memo.resize(at + 1, None);
        }
        self.memo[at] = Some(self.last()?);
        Ok(())
    }

    fn recall(&mut self, at: u64) -> Step<()> {
        let id = usize::try_from(at).ok().and_then(|at| self.memo.get(at).copied().flatten());
        self.stack.push(id.ok_or("it recalls what it never remembered")?);
        Ok(())
    }

    fn function(&mut self, module: &str, name: &str) -> Step<()> {
        if self.around_code {
            self.push(Value::Global(format!("{module}.{name}")));
            return Ok(());
        }
        let known = FUNCTIONS.iter().find(|(m, n, _)| *m == module && *n == name);
        let (_, _, what) = known.ok_or_else(|| {
            format!("it asks for {module}.{name}: code in a pickle is never executed, and only plain values and numpy arrays are read")
        })?;
        self.push(Value::Function(what));
        Ok(())
    }

    fn extend(&mut self, list: Id, items: Vec<Id>) -> Step<()> {
        match &mut self.values[list] {
            Value::List(l) => l.extend(items),
            _ => return Err("it appends to what is no list".into()),
        }
        Ok(())
    }

    fn insert(&mut self, dict: Id, items: Vec<Id>) -> Step<()> {
        match &mut self.values[dict] {
            Value::Dict(d) => d.extend(items.chunks_exact(2).map(|p| (p[0], p[1]))),
            _ => return Err("it sets an item of what is no dictionary".into()),
        }
        Ok(())
    }

    fn call(&mut self) -> Step<()> {
        let (given, function) = (self.pop()?, self.pop()?);
        if self.around_code {
            return self.make(function, given);
        }
        let Value::Tuple(arguments) = &self.values[given] else {
            return Err("a call without arguments".into());
        };
        let first = arguments.first().map(|&i| &self.values[i]);
        let mut encoded = 0;
        let made = match (&self.values[function], first) {
            (Value::Function("array"), _) => Value::Array(Array::default()),
            (Value::Function("type"), Some(Value::Bytes(code))) => {
                Value::Type(String::from_utf8_lossy(code).into_owned())
            }
            (Value::Function("encode"), Some(Value::Bytes(text))) => {
                encoded = text.len();
                let text = std::str::from_utf8(text).map_err(|e| e.to_string())?;
                let bytes = text.chars().map(|c| u8::try_from(u32::from(c)).map_err(|_| "a text that is not latin-1"));
                Value::Bytes(bytes.collect::<Result<_, _>>()?)
            }
            _ => return Err("it calls what is no function".into()),
        };
        self.copies(encoded)?;
        self.push(made);
        Ok(())
    }

    /// What a function would make, which around code is not asked. The one that matters makes a dictionary, of nothing
    /// or of pairs.
    fn make(&mut self, function: Id, given: Id) -> Step<()> {
        let made = match (&self.values[function], &self.values[given]) {
            (Value::Global(name), Value::Tuple(arguments)) if name == "collections.OrderedDict" => {
                let pairs = match arguments.first().map(|&list| &self.values[list]) {
                    Some(Value::List(pairs)) => &pairs[..],
                    _ => &[],
                };
                let pair = |id: &Id| match &self.values[*id] {
                    Value::List(pair) | Value::Tuple(pair) if pair.len() == 2 => Some((pair[0], pair[1])),
                    _ => None,
                };
                Value::Dict(pairs.iter().filter_map(pair).collect())
            }
            _ => Value::Made(function, given),
        };
        if let Value::Dict(pairs) = &made {
            self.copies(pairs.len())?;
        }
        self.push(made);
        Ok(())
    }

    /// Gives an object its state: (version, shape, type, fortran order, bytes) of an array.
    fn build(&mut self) -> Step<()> {
        let (state, object) = (self.pop()?, self.last()?);
        if self.around_code {
            return Ok(());
        }
        let state = match (&self.values[object], &self.values[state]) {
            (Value::Type(_), _) => return Ok(()),
            (Value::Array(_), Value::Tuple(state)) if state.len() == 5 => state.clone(),
            _ => return Err("it gives a state to what has none".into()),
        };
        if let (Value::Tuple(shape), Value::Bytes(data)) = (&self.values[state[1]], &self.values[state[4]]) {
            self.copies(shape.len() + data.len())?;
        }
        let [_, shape, code, fortran, data] = [0, 1, 2, 3, 4].map(|i| &self.values[state[i]]);
        let (Value::Tuple(shape), Value::Type(code), Value::Bytes(data)) = (shape, code, data) else {
            return Err("an array with an odd state".into());
        };
        if matches!(fortran, Value::Bool(true) | Value::Int(1)) {
            return Err("an array in Fortran's order".into());
        }
        let side = |&i: &Id| match self.values[i] {
            Value::Int(n) => usize::try_from(n).ok(),
            _ => None,
        };
        let shape = shape.iter().map(side).collect::<Option<Vec<usize>>>().ok_or("an array with an odd shape")?;
        self.values[object] = Value::Array(Array { shape, code: code.clone(), data: data.clone() });
        Ok(())
    }

    /// Instructions that occur only around code: references to outside, objects, sets.
    fn other(&mut self, op: u8) -> Step<()> {
        match op {
            b'Q' => {
                let id = self.pop()?;
                self.push(Value::Outside(id));
            }
            0x81 => {
                let (given, class) = (self.pop()?, self.pop()?);
                self.make(class, given)?;
            }
            0x92 => {
                let (_, given, class) = (self.pop()?, self.pop()?, self.pop()?);
                self.make(class, given)?;
            }
            0x8F => self.push(Value::List(Vec::new())),
            0x90 => {
                let items = self.marked()?;
                let set = self.last()?;
                self.extend(set, items)?;
            }
            0x91 => {
                let items = self.marked()?;
                self.push(Value::List(items));
            }
            b'0' => drop(self.pop()?),
            b'1' => drop(self.marked()?),
            b'2' => {
                let last = self.last()?;
                self.stack.push(last);
            }
            other => return Err(format!("instruction {other:#04x} at byte {} is not read", self.at - 1)),
        }
        Ok(())
    }

    fn run(mut self) -> Step<Pickle> {
        loop {
            let op = self.take(1)?[0];
            match op {
                0x80 => drop(self.take(1)?),
                0x95 => drop(self.take(8)?),
                b'.' => {
                    let root = self.pop()?;
                    return Ok(Pickle { values: self.values, root });
                }
                b'(' => self.marks.push(self.stack.len()),
                b'N' => self.push(Value::None),
                0x88 | 0x89 => self.push(Value::Bool(op == 0x88)),
                b'J' => {
                    let n = self.number(4)? as u32 as i32;
                    self.push(Value::Int(n.into()));
                }
                b'K' | b'M' => {
                    let n = self.number(if op == b'K' { 1 } else { 2 })?;
                    self.push(Value::Int(n as i64));
                }
                0x8A => {
                    let n = self.number(1)? as usize;
                    if n > 8 && self.around_code {
                        self.take(n)?;
                        self.push(Value::None);
                        continue;
                    }
                    if n > 8 {
                        return Err("a whole number of more than 64 bits".into());
                    }
                    let unsigned = self.number(n)?;
                    let shift = 64 - 8 * n as u32;
                    self.push(Value::Int(if n == 0 { 0 } else { ((unsigned << shift) as i64) >> shift }));
                }
                b'G' => {
                    let bits = self.take(8)?.iter().fold(0u64, |v, &b| v << 8 | u64::from(b));
                    self.push(Value::Float(f64::from_bits(bits)));
                }
                b'U' | b'C' | 0x8C => {
                    let text = self.text(1)?;
                    self.push(text);
                }
                b'T' | b'B' | b'X' => {
                    let text = self.text(4)?;
                    self.push(text);
                }
                0x8D | 0x8E => {
                    let text = self.text(8)?;
                    self.push(text);
                }
                b']' => self.push(Value::List(Vec::new())),
                b'}' => self.push(Value::Dict(Vec::new())),
                b')' => self.push(Value::Tuple(Vec::new())),
                b't' => {
                    let items = self.marked()?;
                    self.push(Value::Tuple(items));
                }
                0x85..=0x87 => self.tuple(usize::from(op - 0x84))?,
                b'a' => {
                    let item = self.pop()?;
                    let list = self.last()?;
                    self.extend(list, vec![item])?;
                }
                b'e' => {
                    let items = self.marked()?;
                    let list = self.last()?;
                    self.extend(list, items)?;
                }
                b's' => {
                    let (value, key) = (self.pop()?, self.pop()?);
                    let dict = self.last()?;
                    self.insert(dict, vec![key, value])?;
                }
                b'u' => {
                    let items = self.marked()?;
                    let dict = self.last()?;
                    self.insert(dict, items)?;
                }
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.function(&module, &name)?;
                }
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    let text = |id: Id| match &self.values[id] {
                        Value::Bytes(b) => String::from_utf8_lossy(b).into_owned(),
                        _ => "?".into(),
                    };
                    let (module, name) = (text(module), text(name));
                    self.function(&module, &name)?;
                }
                b'R' => self.call()?,
                b'b' => self.build()?,
                b'q' | b'r' => {
                    let at = self.number(if op == b'q' { 1 } else { 4 })?;
                    self.remember(at)?;
                }
                b'h' | b'j' => {
                    let at = self.number(if op == b'h' { 1 } else { 4 })?;
                    self.recall(at)?;
                }
                0x94 => self.remember(self.memo.len() as u64)?,
                _ if self.around_code => self.other(op)?,
                other => {
                    let at = self.at - 1;
                    return Err(format!("instruction {other:#04x} at byte {at} is not read"));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_values_of_protocol_2_and_4() {
        // Python 3.13: pickle.dumps({"a": [1, -2, 300, 70000, True, None, 0.5], "b": ("x", b"y")}, protocol=2)
        // differs from 4 only in framing and short strings; both are written out by hand here.
        let two = b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01]q\x02(K\x01J\xfe\xff\xff\xffM,\x01Jp\x11\x01\x00\x88NG?\xe0\x00\x00\x00\x00\x00\x00eX\x01\x00\x00\x00bq\x03U\x01x\x85q\x04u.";
        let four = b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01a\x94]\x94(K\x01\x8a\x01\xfeM,\x01\x8a\x03p\x11\x01\x88NG?\xe0\x00\x00\x00\x00\x00\x00e\x8c\x01b\x94\x8c\x01x\x85\x94u.";
        for bytes in [&two[..], four] {
            let p = Pickle::read(bytes).unwrap();
            let Some(Value::List(items)) = p.entry("a") else { panic!("{p:?}") };
            let found: Vec<&Value> = items.iter().map(|&i| p.value(i)).collect();
            use Value::*;
            assert_eq!(found, [&Int(1), &Int(-2), &Int(300), &Int(70000), &Bool(true), &None, &Float(0.5)]);
            let Some(Value::Tuple(items)) = p.entry("b") else { panic!("{p:?}") };
            assert_eq!(p.value(items[0]), &Bytes(b"x".to_vec()));
        }
    }

    #[test]
    fn code_is_named_and_never_executed() {
        for bytes in [
            &b"\x80\x02cposix\nsystem\nX\x06\x00\x00\x00echo x\x85R."[..],
            b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x06echo x\x85R.",
            b"\x80\x02cbuiltins\neval\nX\x03\x00\x00\x001+1\x85R.",
        ] {
            let e = Pickle::read(bytes).unwrap_err();
            assert!(e.contains("never executed") && (e.contains("posix.system") || e.contains("builtins.eval")), "{e}");
        }
    }

    #[test]
    fn around_code_plain_values_are_found_and_the_rest_stays_a_name() {
        // An ordered dictionary with one entry, a class's object with a state, and a reference to outside.
        let whole = b"\x80\x02ccollections\nOrderedDict\n)R(X\x01\x00\x00\x00acx\ny\nK\x07Q\x85RX\x01\x00\x00\x00bcm\nC\n)\x81}bu}b.";
        assert!(Pickle::read(whole).unwrap_err().contains("never executed"));
        let p = Pickle::read_around_code(whole).unwrap();
        let Some(Value::Made(function, given)) = p.entry("a") else { panic!("{p:?}") };
        assert_eq!(p.value(*function), &Value::Global("x.y".into()));
        let Value::Tuple(given) = p.value(*given) else { panic!("{p:?}") };
        let Value::Outside(id) = p.value(given[0]) else { panic!("{p:?}") };
        assert_eq!(p.value(*id), &Value::Int(7));
        assert!(matches!(p.entry("b"), Some(Value::Made(..))));
    }

    #[test]
    fn one_value_referred_to_again_and_again_is_not_copied_each_time() {
        // One text of 4000 bytes, and 2000 arrays that all hold it.
        let mut bytes = b"\x80\x02cnumpy\ndtype\nX\x02\x00\x00\x00u1\x85Rq\x01T\xa0\x0f\x00\x00".to_vec();
        bytes.extend([b'x'; 4000]);
        bytes.extend(b"q\x02");
        for _ in 0..2000 {
            bytes.extend(b"cnumpy.core.multiarray\n_reconstruct\n)R(K\x01K\x01\x85h\x01\x89h\x02tb");
        }
        bytes.push(b'.');
        assert_eq!(Pickle::read(&bytes).unwrap_err(), "its arrays have more bytes than the file");
    }

    #[test]
    fn whatever_is_damaged_is_an_error() {
        let whole = b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01]q\x02(K\x01K\x02eu.";
        assert!(Pickle::read(whole).is_ok());
        for n in 0..whole.len() {
            assert!(Pickle::read(&whole[..n]).is_err(), "{n} bytes");
        }
        for bad in [
            &b"\x80\x02e."[..],
            b"\x80\x02).",
            b"\x80\x02(K\x01a.",
            b"\x80\x02h\x05.",
            b"\x80\x02Nr\xff\xff\xff\xff.",
            b"\x80\x02X\xff\xff\xff\xffa.",
            b"\x80\x02NNs.",
            b"\x80\x02}]}b.",
            b"(dp0\n.",
            b"\x80\x02i__main__\nX\n.",
        ] {
            let read = Pickle::read(bad);
            assert!(read.is_err() || bad == b"\x80\x02).", "{bad:?}: {read:?}");
        }
    }
}
