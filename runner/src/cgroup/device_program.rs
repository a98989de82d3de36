//! Rules about devices for cgroups of v2, which have no file for them: a program of the kernel that looks
//! at each use (`BPF_PROG_TYPE_CGROUP_DEVICE`).

use std::fs::File;
use std::path::Path;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};
use sys::bpf::{Instruction, op};

use crate::cgroup::resources::{is_all, usual_devices};
use crate::error::{Context, Result};

/// `BPF_DEVCG_DEV_*` and `BPF_DEVCG_ACC_*` of `linux/bpf.h`.
const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;
const MAKE: i32 = 1;
const READ: i32 = 2;
const WRITE: i32 = 4;
const ALL: i32 = MAKE | READ | WRITE;

/// Registers: what is returned, what the program is given, and what is taken from it.
const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// One rule; `None` is any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rule {
    allow: bool,
    kind: Option<i32>,
    major: Option<u32>,
    minor: Option<u32>,
    access: i32,
}

/// Puts a cgroup under these rules, and those for usual devices where all are denied first.
pub(super) fn attach(rules: &[LinuxDeviceCgroup], cgroup: &Path) -> Result<()> {
    let step = "linux.resources.devices: limit the devices of";
    let mut all: Vec<Rule> = rules.iter().map(rule).collect();
    if rules.iter().any(|r| !r.allow() && is_all(r)) {
        all.extend(usual_devices().into_iter().map(|(kind, major, minor, access)| Rule {
            allow: true,
            kind: Some(if kind == 'b' { BLOCK } else { CHARACTER }),
            major,
            minor,
            access: bits(access),
        }));
    }
    let dir = File::open(cgroup).step_at("open cgroup", cgroup)?;
    let program = sys::bpf::load_device_program(&compile(&all)).step_at(step, cgroup)?;
    sys::bpf::attach_device_program(&program, &dir).step_at(step, cgroup)
}

fn rule(rule: &LinuxDeviceCgroup) -> Rule {
    let number = |n: Option<i64>| n.and_then(|n| u32::try_from(n).ok());
    Rule {
        allow: rule.allow(),
        kind: match rule.typ() {
            Some(LinuxDeviceType::B) => Some(BLOCK),
            Some(LinuxDeviceType::C | LinuxDeviceType::U) => Some(CHARACTER),
            _ => None,
        },
        major: number(rule.major()),
        minor: number(rule.minor()),
        access: rule.access().as_deref().map_or(ALL, bits),
    }
}

fn bits(access: &str) -> i32 {
    let one = |c| match c {
        'm' => MAKE,
        'r' => READ,
        'w' => WRITE,
        _ => 0,
    };
    access.chars().map(one).fold(0, |all, bit| all | bit)
}

/// Compiles rules, of which the last that is about a use decides; what none is about is allowed.
fn compile(rules: &[Rule]) -> Vec<Instruction> {
    let load = |to: u8, at: i16| instruction(op::LOAD, to | CONTEXT << 4, at, 0);
    let mut program = vec![
        load(KIND, 0),
        instruction(op::COPY, ACCESS | KIND << 4, 0, 0),
        instruction(op::AND, KIND, 0, 0xffff),
        instruction(op::SHIFT_RIGHT, ACCESS, 0, 16),
        load(MAJOR, 4),
        load(MINOR, 8),
    ];
    for rule in rules.iter().rev() {
        program.extend(compile_rule(rule));
        // What is behind would never be reached, which the kernel refuses.
        if rule.is_about_all() {
            return program;
        }
    }
    program.extend(result(true));
    program
}

impl Rule {
    /// Whether no use is left to other rules.
    fn is_about_all(&self) -> bool {
        let is_any = self.kind.is_none() && self.major.is_none() && self.minor.is_none();
        is_any && self.access == ALL
    }
}

fn compile_rule(rule: &Rule) -> Vec<Instruction> {
    // From the end: each test jumps behind the rest.
    let mut code: Vec<Instruction> = result(rule.allow).into();
    let unless = |register: u8, value: i32, rest: usize| {
        instruction(op::JUMP_UNLESS, register, rest as i16, value)
    };
    for (register, value) in [(MINOR, rule.minor), (MAJOR, rule.major)] {
        if let Some(value) = value {
            code.insert(0, unless(register, value as i32, code.len()));
        }
    }
    if rule.access != ALL {
        // All that is asked for must be in the rule.
        let same = instruction(op::JUMP_UNLESS_SAME, CONTEXT | ACCESS << 4, code.len() as i16, 0);
        let take = instruction(op::COPY, CONTEXT | ACCESS << 4, 0, 0);
        let mask = instruction(op::AND, CONTEXT, 0, rule.access);
        code.splice(0..0, [take, mask, same]);
    }
    if let Some(kind) = rule.kind {
        code.insert(0, unless(KIND, kind, code.len()));
    }
    code
}

fn result(allow: bool) -> [Instruction; 2] {
    [instruction(op::SET, RESULT, 0, i32::from(allow)), instruction(op::EXIT, 0, 0, 0)]
}

fn instruction(code: u8, registers: u8, offset: i16, constant: i32) -> Instruction {
    Instruction { code, registers, offset, constant }
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;

    /// Runs a program as the kernel does.
    fn allows(program: &[Instruction], kind: i32, access: i32, numbers: (u32, u32)) -> bool {
        let memory = [(access << 16 | kind) as u32, numbers.0, numbers.1];
        let mut registers = [0u32; 16];
        let mut at = 0usize;
        loop {
            let i = program[at];
            let (to, from) = ((i.registers & 15) as usize, (i.registers >> 4) as usize);
            at += 1;
            let jumps = match i.code {
                op::LOAD => {
                    registers[to] = memory[i.offset as usize / 4];
                    false
                }
                op::COPY => {
                    registers[to] = registers[from];
                    false
                }
                op::AND => {
                    registers[to] &= i.constant as u32;
                    false
                }
                op::SHIFT_RIGHT => {
                    registers[to] >>= i.constant;
                    false
                }
                op::SET => {
                    registers[to] = i.constant as u32;
                    false
                }
                op::JUMP_UNLESS => registers[to] != i.constant as u32,
                op::JUMP_UNLESS_SAME => registers[to] != registers[from],
                op::EXIT => return registers[0] == 1,
                other => panic!("{other:#x}"),
            };
            if jumps {
                at += i.offset as usize;
            }
        }
    }

    #[test]
    fn the_last_rule_about_a_use_decides() {
        let any = Rule { allow: false, kind: None, major: None, minor: None, access: ALL };
        let null = Rule {
            allow: true,
            kind: Some(CHARACTER),
            major: Some(1),
            minor: Some(3),
            access: READ | WRITE,
        };
        let program = compile(&[any, null]);
        assert!(allows(&program, CHARACTER, READ, (1, 3)));
        assert!(allows(&program, CHARACTER, READ | WRITE, (1, 3)));
        assert!(!allows(&program, CHARACTER, MAKE, (1, 3)));
        assert!(!allows(&program, CHARACTER, READ | MAKE, (1, 3)));
        assert!(!allows(&program, BLOCK, READ, (1, 3)));
        assert!(!allows(&program, CHARACTER, READ, (1, 5)));
        assert!(!allows(&program, CHARACTER, READ, (5, 3)));
        assert!(allows(&compile(&[]), BLOCK, ALL, (8, 0)));
        assert!(!allows(&compile(&[null, any]), CHARACTER, READ, (1, 3)));
    }

    /// Adds what can be reached from an instruction.
    fn reach(program: &[Instruction], mut at: usize, seen: &mut [bool]) {
        while !std::mem::replace(&mut seen[at], true) {
            let i = program[at];
            at += 1;
            match i.code {
                op::EXIT => return,
                op::JUMP_UNLESS | op::JUMP_UNLESS_SAME => {
                    reach(program, at + i.offset as usize, seen);
                }
                _ => {}
            }
        }
    }

    #[test]
    fn each_instruction_is_reached_as_the_kernel_wants_it() {
        let any = Rule { allow: false, kind: None, major: None, minor: None, access: ALL };
        let all_to_read = Rule { access: READ, ..any };
        let null =
            Rule { allow: true, kind: Some(CHARACTER), major: Some(1), minor: Some(3), ..any };
        let lists: [&[Rule]; 6] = [
            &[],
            &[any],
            &[any, null],
            &[null, any],
            &[null, any, all_to_read, null, any, null],
            &[all_to_read, null],
        ];
        for rules in lists {
            let program = compile(rules);
            let mut seen = vec![false; program.len()];
            reach(&program, 0, &mut seen);
            assert!(seen.iter().all(|s| *s), "{rules:?}: {program:?}");
            match sys::bpf::load_device_program(&program) {
                // Users may load none, nor may anybody where the kernel has no such programs.
                Ok(_) | Err(Errno::EPERM | Errno::ENOSYS) => {}
                Err(e) => panic!("{rules:?}: {e}"),
            }
        }
    }
}
