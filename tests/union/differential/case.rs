//! One case: lower layers, a umask and operations; and its text form.

use std::fmt;

use super::op::Op;

/// What is laid out and what is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Case {
    /// Literals of the lower layers, the topmost first.
    pub(crate) layers: Vec<String>,
    pub(crate) umask: u32,
    pub(crate) ops: Vec<Op>,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "case umask {:o}", self.umask)?;
        for layer in &self.layers {
            writeln!(f, "layer")?;
            for line in layer.lines() {
                writeln!(f, "  {line}")?;
            }
        }
        writeln!(f, "do")?;
        for op in &self.ops {
            writeln!(f, "  {op}")?;
        }
        Ok(())
    }
}

impl Case {
    /// Parses any number of cases. `#` starts a comment, which says what a case is about.
    ///
    /// # Panics
    /// The text has a mistake.
    pub(crate) fn parse_all(text: &str) -> Vec<Case> {
        let mut cases: Vec<Case> = Vec::new();
        let mut doing = false;
        let lines = text.lines().map(str::trim);
        for line in lines.filter(|l| !l.is_empty() && !l.starts_with('#')) {
            if let Some(umask) = line.strip_prefix("case umask ") {
                let umask = u32::from_str_radix(umask, 8).expect("an octal umask");
                cases.push(Case { layers: Vec::new(), umask, ops: Vec::new() });
                doing = false;
                continue;
            }
            let case = cases.last_mut().expect("`case` comes first");
            match line {
                "layer" => case.layers.push(String::new()),
                "do" => doing = true,
                op if doing => case.ops.push(Op::parse(op)),
                line => {
                    let layer = case.layers.last_mut().expect("`layer` comes before its lines");
                    layer.push_str(line);
                    layer.push('\n');
                }
            }
        }
        cases
    }
}
