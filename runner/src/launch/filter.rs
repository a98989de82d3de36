//! Compiles a profile of system calls to a program of the kernel's classic BPF (seccomp(2)).
//!
//! For each architecture whose programs the machine runs, a binary search by number leads to the
//! action; the kernel keeps in a bitmap which numbers are always allowed, so that most calls run no
//! instruction of it. Why this is not a crate's: docs/decisions/0004-seccomp.md.

use std::collections::BTreeMap;

use sys::seccomp::{Instruction, arch, op};

use crate::spec::{Action, Argument, Comparison, Profile};

/// Looks up the number of a call by its name.
type Lookup = fn(&str) -> Option<u32>;

/// Where `struct seccomp_data` has its fields.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// Architectures of the programs that the machine runs.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURES: [(u32, Lookup); 2] = [
    (arch::X86_64, |n| n.parse::<syscalls::x86_64::Sysno>().ok().map(|s| s.id() as u32)),
    (arch::I386, |n| n.parse::<syscalls::x86::Sysno>().ok().map(|s| s.id() as u32)),
];
/// Architectures of the programs that the machine runs.
#[cfg(target_arch = "aarch64")]
const ARCHITECTURES: [(u32, Lookup); 2] = [
    (arch::AARCH64, |n| n.parse::<syscalls::aarch64::Sysno>().ok().map(|s| s.id() as u32)),
    (arch::ARM, |n| n.parse::<syscalls::arm::Sysno>().ok().map(|s| s.id() as u32)),
];

/// What is done with one system call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Verdict {
    /// The first whose conditions hold decides,
    conditional: Vec<(Vec<Argument>, Action)>,
    /// else this,
    always: Option<Action>,
}

/// Whether a name is that of a system call of some architecture here.
pub(crate) fn knows(name: &str) -> bool {
    ARCHITECTURES.iter().any(|(_, lookup)| lookup(name).is_some())
}

/// Returns the number that a call has on an architecture.
pub(super) fn number(architecture: u32, name: &str) -> Option<u32> {
    let (_, lookup) = ARCHITECTURES.into_iter().find(|(a, _)| *a == architecture)?;
    lookup(name)
}

/// Compiles a profile.
pub(super) fn compile(profile: &Profile) -> Vec<Instruction> {
    let mut program = vec![load(ARCHITECTURE)];
    let [native, _] = ARCHITECTURES.map(|(architecture, _)| architecture);
    let may_run = |architecture: u32| {
        let named = &profile.architectures;
        named.is_empty() || architecture == native || named.contains(&architecture)
    };
    for (architecture, lookup) in ARCHITECTURES.into_iter().filter(|(a, _)| may_run(*a)) {
        let block = calls(profile, lookup);
        program.push(jump(op::JEQ, architecture, 1, 0));
        program.push(go(block.len()));
        program.extend(block);
    }
    program.push(ret(Action::KillProcess));
    program
}

/// Compiles what hands some calls to whoever listens, and lets all others be made.
pub(super) fn notify(names: &[&str]) -> Vec<Instruction> {
    let names = names.iter().map(|n| (*n).to_owned()).collect();
    let rule = crate::spec::Rule { names, action: Action::Notify, arguments: Vec::new() };
    let mut program = compile(&Profile::new(Action::Allow, vec![rule]));
    // What no rule is about is the other filter's to decide.
    if let Some(last) = program.last_mut() {
        *last = ret(Action::Allow);
    }
    program
}

/// Compiles the rules for one architecture.
fn calls(profile: &Profile, lookup: Lookup) -> Vec<Instruction> {
    let mut verdicts: BTreeMap<u32, Verdict> = BTreeMap::new();
    for rule in &profile.rules {
        for number in rule.names.iter().filter_map(|n| lookup(n)) {
            let verdict = verdicts.entry(number).or_default();
            if rule.arguments.is_empty() {
                verdict.always.get_or_insert(rule.action);
            } else {
                verdict.conditional.push((rule.arguments.clone(), rule.action));
            }
        }
    }
    // Runs of numbers with one verdict, each up to the next.
    let unnamed = Verdict { always: Some(profile.default), ..Verdict::default() };
    let mut runs: Vec<(u32, Verdict)> = vec![(0, unnamed.clone())];
    let mut next = 0;
    for (number, mut verdict) in verdicts {
        verdict.always.get_or_insert(profile.default);
        if number > next {
            begin(&mut runs, next, unnamed.clone());
        }
        begin(&mut runs, number, verdict);
        next = number + 1;
    }
    begin(&mut runs, next, unnamed);
    let mut program = vec![load(NUMBER)];
    program.extend(search(&runs));
    program
}

/// Adds a run that begins at a number.
fn begin(runs: &mut Vec<(u32, Verdict)>, number: u32, verdict: Verdict) {
    match runs.last_mut() {
        Some((_, last)) if *last == verdict => {}
        Some((start, last)) if *start == number => *last = verdict,
        _ => runs.push((number, verdict)),
    }
}

/// Finds the run of the number that is loaded.
fn search(runs: &[(u32, Verdict)]) -> Vec<Instruction> {
    match runs {
        [] => Vec::new(),
        [(_, verdict)] => decide(verdict),
        _ => {
            let (low, high) = runs.split_at(runs.len() / 2);
            let first = high.first().map_or(0, |(number, _)| *number);
            let low = search(low);
            let mut program = vec![jump(op::JGE, first, 0, 1), go(low.len())];
            program.extend(low);
            program.extend(search(high));
            program
        }
    }
}

fn decide(verdict: &Verdict) -> Vec<Instruction> {
    let mut program = Vec::new();
    for (conditions, action) in &verdict.conditional {
        let mut rule = vec![ret(*action)];
        for condition in conditions.iter().rev() {
            let mut test = check(condition, rule.len());
            test.append(&mut rule);
            rule = test;
        }
        program.append(&mut rule);
    }
    program.push(ret(verdict.always.unwrap_or(Action::KillProcess)));
    program
}

/// Compiles a condition: goes on behind it where it holds, else `rest` instructions further.
fn check(condition: &Argument, rest: usize) -> Vec<Instruction> {
    let at = ARGUMENTS + 8 * u32::from(condition.index);
    // Both architectures have the lower half first.
    let (low, high) = (load(at), load(at + 4));
    let value = |v: u64| (v as u32, (v >> 32) as u32);
    let (vl, vh) = value(condition.value);
    // Distances from an instruction with `behind` more of this condition after it.
    let fail = |behind: usize| (behind + rest).min(255) as u8;
    match condition.comparison {
        Comparison::Equal => {
            vec![high, jump(op::JEQ, vh, 0, fail(2)), low, jump(op::JEQ, vl, 0, fail(0))]
        }
        Comparison::NotEqual => {
            vec![high, jump(op::JEQ, vh, 0, 2), low, jump(op::JEQ, vl, fail(0), 0)]
        }
        Comparison::Masked(mask) => {
            let (ml, mh) = value(mask);
            vec![
                high,
                and(mh),
                jump(op::JEQ, vh, 0, fail(3)),
                low,
                and(ml),
                jump(op::JEQ, vl, 0, fail(0)),
            ]
        }
        Comparison::Greater => ordered(high, low, (vh, vl), op::JGT, fail),
        Comparison::GreaterOrEqual => ordered(high, low, (vh, vl), op::JGE, fail),
        Comparison::Less => reversed(high, low, (vh, vl), op::JGE, fail),
        Comparison::LessOrEqual => reversed(high, low, (vh, vl), op::JGT, fail),
    }
}

fn ordered(
    high: Instruction,
    low: Instruction,
    (vh, vl): (u32, u32),
    last: u16,
    fail: impl Fn(usize) -> u8,
) -> Vec<Instruction> {
    vec![
        high,
        jump(op::JGT, vh, 3, 0),
        jump(op::JEQ, vh, 0, fail(2)),
        low,
        jump(last, vl, 0, fail(0)),
    ]
}

fn reversed(
    high: Instruction,
    low: Instruction,
    (vh, vl): (u32, u32),
    last: u16,
    fail: impl Fn(usize) -> u8,
) -> Vec<Instruction> {
    vec![
        high,
        jump(op::JGT, vh, fail(3), 0),
        jump(op::JEQ, vh, 0, 2),
        low,
        jump(last, vl, fail(0), 0),
    ]
}

fn load(at: u32) -> Instruction {
    Instruction { code: op::LOAD, jt: 0, jf: 0, k: at }
}

fn and(mask: u32) -> Instruction {
    Instruction { code: op::AND, jt: 0, jf: 0, k: mask }
}

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}

fn go(distance: usize) -> Instruction {
    Instruction { code: op::JA, jt: 0, jf: 0, k: distance as u32 }
}

fn ret(action: Action) -> Instruction {
    let k = match action {
        Action::KillProcess => 0x8000_0000,
        Action::KillThread => 0,
        Action::Trap => 0x0003_0000,
        Action::Errno(number) => 0x0005_0000 | u32::from(number),
        Action::Trace(number) => 0x7ff0_0000 | u32::from(number),
        Action::Notify => 0x7fc0_0000,
        Action::Log => 0x7ffc_0000,
        Action::Allow => 0x7fff_0000,
    };
    Instruction { code: op::RET, jt: 0, jf: 0, k }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Rule;

    /// Runs a program as the kernel does, on a call of the first architecture.
    fn run(program: &[Instruction], number: u32, args: [u64; 6]) -> u32 {
        let word = |at: u32| match at {
            NUMBER => number,
            ARCHITECTURE => ARCHITECTURES[0].0,
            _ => {
                let (index, half) = ((at - ARGUMENTS) / 8, (at - ARGUMENTS) % 8);
                (args[index as usize] >> (half * 8)) as u32
            }
        };
        let (mut a, mut pc) = (0u32, 0usize);
        loop {
            let i = program[pc];
            pc += 1;
            let holds = match i.code {
                op::LOAD => {
                    a = word(i.k);
                    continue;
                }
                op::AND => {
                    a &= i.k;
                    continue;
                }
                op::JA => {
                    pc += i.k as usize;
                    continue;
                }
                op::RET => return i.k,
                op::JEQ => a == i.k,
                op::JGT => a > i.k,
                op::JGE => a >= i.k,
                other => panic!("{other:#x}"),
            };
            pc += usize::from(if holds { i.jt } else { i.jf });
        }
    }

    fn number(name: &str) -> u32 {
        (ARCHITECTURES[0].1)(name).unwrap()
    }

    const ALLOW: u32 = 0x7fff_0000;
    const EPERM: u32 = 0x0005_0001;

    #[test]
    fn every_number_meets_its_rule() {
        let names = ["read", "getpid", "openat2"];
        let rules = vec![Rule {
            names: names.map(str::to_owned).into(),
            action: Action::Allow,
            arguments: vec![],
        }];
        let program = compile(&Profile::new(Action::Errno(1), rules));
        for n in (0..600).chain([0x4000_0000, u32::MAX]) {
            let expected = names.iter().any(|name| number(name) == n);
            assert_eq!(run(&program, n, [0; 6]) == ALLOW, expected, "{n}");
        }
    }

    #[test]
    fn arguments_are_compared_in_all_their_bits() {
        let big = 0x1_0000_0005u64;
        let rows: [(Comparison, &[u64], &[u64]); 7] = [
            (Comparison::Equal, &[big], &[5, big + 1, 0x2_0000_0005]),
            (Comparison::NotEqual, &[5, 0x2_0000_0005, big + 1], &[big]),
            (Comparison::Less, &[5, 6, big - 1], &[big, big + 1, 0x2_0000_0000]),
            (Comparison::LessOrEqual, &[0, 7, big], &[big + 1, 0x2_0000_0000]),
            (Comparison::Greater, &[big + 1, 0x2_0000_0000], &[big, 7, 0]),
            (Comparison::GreaterOrEqual, &[big, 0x2_0000_0000], &[big - 1, 7]),
            (Comparison::Masked(0x1_0000_000f), &[big, big | 0xf0], &[5, big - 1]),
        ];
        for (comparison, yes, no) in rows {
            let argument = |index| Argument { index, comparison, value: big };
            let rule = Rule {
                names: vec!["read".into()],
                action: Action::Allow,
                arguments: vec![argument(1), argument(5)],
            };
            let program = compile(&Profile::new(Action::Errno(1), vec![rule]));
            let answer = |v, w| run(&program, number("read"), [0, v, 0, 0, 0, w]);
            for v in yes {
                assert_eq!(answer(*v, yes[0]), ALLOW, "{comparison:?} {v:#x}");
            }
            for v in no {
                assert_eq!(answer(*v, yes[0]), EPERM, "{comparison:?} {v:#x}");
                assert_eq!(answer(yes[0], *v), EPERM, "{comparison:?} {v:#x}");
            }
        }
    }

    #[test]
    fn what_is_handed_on_leaves_the_rest_alone() {
        let program = notify(&["sysinfo"]);
        assert_eq!(run(&program, number("sysinfo"), [0; 6]), 0x7fc0_0000);
        assert_eq!(run(&program, number("read"), [0; 6]), ALLOW);
    }
}
