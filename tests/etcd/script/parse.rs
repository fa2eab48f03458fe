//! The text of a script as steps, and back.

use ::tests::process::Program;

/// A call with its answers.
#[derive(Debug, Default)]
pub struct Step {
    /// As written, for writing it back.
    source: Vec<String>,
    /// On one line.
    pub command: String,
    /// Line in the file, from 1.
    line: usize,
    /// What etcd answered.
    pub recorded: Vec<String>,
    /// Why corestone differs, as written, and what it answers.
    reason: Vec<String>,
    on_purpose: Option<Vec<String>>,
}

impl Step {
    /// The lines as they were written, without the two spaces of a continued one.
    pub fn source(&self) -> impl Iterator<Item = &str> {
        self.source.iter().map(|line| line.strip_prefix("  ").unwrap_or(line))
    }

    pub fn expected(&self, program: &Program) -> &Vec<String> {
        match (program, &self.on_purpose) {
            (Program::Corestone(_), Some(answer)) => answer,
            _ => &self.recorded,
        }
    }

    pub fn difference(&self, expected: &[String], answer: &[String]) -> String {
        let mut text = format!("line {}: {}\n", self.line, shortened(&self.command));
        for line in expected.iter().filter(|line| !answer.contains(line)) {
            text.push_str(&format!("  - {}\n", shortened(line)));
        }
        for line in answer.iter().filter(|line| !expected.contains(line)) {
            text.push_str(&format!("  + {}\n", shortened(line)));
        }
        text
    }
}

fn shortened(text: &str) -> String {
    if text.len() <= SHOWN_BYTES {
        text.to_owned()
    } else {
        text.chars().take(SHOWN_BYTES).collect()
    }
}

#[derive(Debug)]
pub enum Item {
    /// Comments and empty lines.
    Text(String),
    Case {
        name: String,
        is_absolute: bool,
    },
    Step(Step),
}

#[derive(Debug, Default)]
pub struct Script {
    /// Flags of the member, from lines `flags: ...`.
    pub flags: Vec<String>,
    pub items: Vec<Item>,
}

/// One case of a script.
#[derive(Debug)]
pub struct Case<'a> {
    pub name: String,
    /// It needs a store that nobody wrote to.
    pub is_absolute: bool,
    pub steps: Vec<&'a mut Step>,
}

impl Script {
    /// The cases in their order.
    pub fn cases_mut(&mut self) -> Vec<Case<'_>> {
        let mut cases: Vec<Case<'_>> = Vec::new();
        for item in &mut self.items {
            match item {
                Item::Text(_) => {}
                Item::Case { name, is_absolute } => {
                    let (name, is_absolute) = (name.clone(), *is_absolute);
                    cases.push(Case { name, is_absolute, steps: Vec::new() });
                }
                Item::Step(step) => {
                    let case = cases.last_mut().expect("a script begins with a case");
                    case.steps.push(step);
                }
            }
        }
        cases
    }

    /// Forgets the cases for a fresh store and those of these names.
    ///
    /// # Panics
    /// When there is no case of such a name: the test is wrong.
    pub fn leave_out(&mut self, names: &[&str]) {
        for wanted in names {
            let is_it = |item: &Item| matches!(item, Item::Case { name, .. } if name == wanted);
            assert!(self.items.iter().any(is_it), "no case {wanted}");
        }
        let mut is_kept = true;
        self.items.retain(|item| {
            if let Item::Case { name, is_absolute } = item {
                is_kept = !is_absolute && !names.contains(&name.as_str());
            }
            is_kept
        });
    }

    /// # Panics
    /// When a line stands where it may not: the script is wrong.
    pub fn parse(text: &str) -> Script {
        let mut script = Script::default();
        for (index, line) in text.lines().enumerate() {
            script.parse_line(index + 1, line);
        }
        script
    }

    fn parse_line(&mut self, number: usize, line: &str) {
        if let Some(name) = line.strip_prefix("== ") {
            let (name, is_absolute) = match name.strip_suffix(" (absolute)") {
                Some(name) => (name, true),
                None => (name, false),
            };
            self.items.push(Item::Case { name: name.to_owned(), is_absolute });
        } else if let Some(answer) = line.strip_prefix("!< ") {
            self.last_step(number).on_purpose.get_or_insert_default().push(answer.to_owned());
        } else if line.starts_with("! ") {
            self.last_step(number).reason.push(line.to_owned());
        } else if let Some(answer) = line.strip_prefix("< ") {
            self.last_step(number).recorded.push(answer.to_owned());
        } else if let Some(more) = line.strip_prefix("  ") {
            let step = self.last_step(number);
            step.command.push(' ');
            step.command.push_str(more);
            step.source.push(line.to_owned());
        } else if line.is_empty() || line.starts_with('#') {
            self.items.push(Item::Text(line.to_owned()));
        } else if let Some(flags) = line.strip_prefix("flags: ") {
            self.flags.extend(flags.split(' ').map(str::to_owned));
            self.items.push(Item::Text(line.to_owned()));
        } else {
            let source = vec![line.to_owned()];
            let command = line.to_owned();
            let step = Step { source, command, line: number, ..Step::default() };
            self.items.push(Item::Step(step));
        }
    }

    fn last_step(&mut self, number: usize) -> &mut Step {
        match self.items.last_mut() {
            Some(Item::Step(step)) => step,
            _ => panic!("line {number} belongs to no call"),
        }
    }

    /// The script as text again.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |line: &str| {
            text.push_str(line);
            text.push('\n');
        };
        for item in &self.items {
            match item {
                Item::Text(same) => line(same),
                Item::Case { name, is_absolute: true } => line(&format!("== {name} (absolute)")),
                Item::Case { name, .. } => line(&format!("== {name}")),
                Item::Step(step) => {
                    step.source.iter().for_each(|source| line(source));
                    step.recorded.iter().for_each(|answer| line(&format!("< {answer}")));
                    step.reason.iter().for_each(|reason| line(reason));
                    let on_purpose = step.on_purpose.iter().flatten();
                    on_purpose.for_each(|answer| line(&format!("!< {answer}")));
                }
            }
        }
        text
    }
}

/// Bytes of a request or an answer in the message of a failing test.
const SHOWN_BYTES: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_that_need_a_fresh_store_are_left_out_with_the_named_ones() {
        let text = "== one (absolute)\nKV.Put key: \"a\"\n== two\nKV.Put key: \"b\"\n\
                    == three\nKV.Put key: \"c\"\n";
        let mut script = Script::parse(text);
        assert!(script.cases_mut()[0].is_absolute);
        script.leave_out(&["two"]);
        let cases = script.cases_mut();
        assert_eq!(cases.len(), 1);
        assert_eq!((cases[0].name.as_str(), cases[0].steps.len()), ("three", 1));
    }

    #[test]
    fn a_script_is_written_back_as_it_was() {
        let text = "# why\nflags: --a=1 --b\n== first (absolute)\nKV.Put key: \"a\"\n  value: \"b\"\n\
                    < header: +1\n! a reason\n!< header: +2\n\n== second\nreceive w\n< one\n< two\n";
        let script = Script::parse(text);
        assert_eq!(script.text(), text);
        assert_eq!(script.flags, ["--a=1", "--b"]);
        let Item::Step(step) = &script.items[3] else { panic!("{:?}", script.items[3]) };
        assert_eq!(step.command, "KV.Put key: \"a\" value: \"b\"");
        let corestone = Program::Corestone(::tests::process::IoDriver::Auto);
        assert_eq!(*step.expected(&corestone), ["header: +2"]);
        assert_eq!(*step.expected(&Program::Etcd("etcd".into())), ["header: +1"]);
    }
}
