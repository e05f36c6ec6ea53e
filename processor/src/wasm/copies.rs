//! Makes a component's short copies cheap.
//!
//! Compilers turn every copy whose length they do not know into `memory.copy`, and Cranelift turns that into a call of
//! the host: some 10 ns, for the few bytes of a JSON key as for a megabyte. Steps that read and write JSON copy hundreds of
//! short strings a call. So `memory.copy` within memory 0 becomes a call of a function that is added to the module: up to
//! 64 bytes it loads all and then stores all, in pieces that overlap, which is right for regions that overlap, too; longer
//! copies it leaves to `memory.copy`.
//!
//! What a copy does stays the same, but for one that traps: a part of it may have been done. No guest sees that: its
//! instance is given up.

use std::convert::Infallible;

use wasm_encoder::reencode::{Error, Reencode, ReencodeComponent, utils};
use wasm_encoder::{
    BlockType, CodeSection, Component, Function, FunctionSection, Instruction, InstructionSink,
    MemArg, TypeSection, ValType,
};
use wasmparser::{Operator, Parser, Payload, TypeRef, Validator};

type Result<T> = std::result::Result<T, Error<Infallible>>;

/// The same component with cheap short copies; `None` where that cannot be had, for whatever reason: compile it as it is,
/// and let the compiler say what is wrong with it.
pub(super) fn shortened(component: &[u8]) -> Option<Vec<u8>> {
    // what the engine would refuse must not be mended by being written anew
    if !Parser::is_component(component) || Validator::new().validate_all(component).is_err() {
        return None;
    }
    // the library panics on some that are cut off; it holds nothing of ours
    let rewritten = std::panic::catch_unwind(|| {
        let mut rewriting = Rewriting::default();
        let mut written = Component::new();
        rewriting
            .parse_component(&mut written, Parser::new(0), component)
            .ok()?;
        rewriting.found.then(|| written.finish())
    });
    rewritten.ok().flatten()
}

/// What is known of the module that is being rewritten.
#[derive(Clone, Copy)]
struct Added {
    function: u32,
    its_type: u32,
}

#[derive(Default)]
struct Rewriting {
    /// `None`: the module is left as it is.
    added: Option<Added>,
    found: bool,
}

impl Reencode for Rewriting {
    type Error = Infallible;

    fn instruction<'a>(&mut self, operator: Operator<'a>) -> Result<Instruction<'a>> {
        match (self.added, &operator) {
            (
                Some(added),
                Operator::MemoryCopy {
                    dst_mem: 0,
                    src_mem: 0,
                },
            ) => {
                self.found = true;
                Ok(Instruction::Call(added.function))
            }
            _ => utils::instruction(self, operator),
        }
    }

    fn parse_type_section(
        &mut self,
        types: &mut TypeSection,
        section: wasmparser::TypeSectionReader<'_>,
    ) -> Result<()> {
        utils::parse_type_section(self, types, section)?;
        if self.added.is_some() {
            types.ty().function([ValType::I32; 3], []);
        }
        Ok(())
    }

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: wasmparser::FunctionSectionReader<'_>,
    ) -> Result<()> {
        utils::parse_function_section(self, functions, section)?;
        if let Some(added) = self.added {
            functions.function(added.its_type);
        }
        Ok(())
    }

    fn parse_code_section(
        &mut self,
        code: &mut CodeSection,
        section: wasmparser::CodeSectionReader<'_>,
    ) -> Result<()> {
        utils::parse_code_section(self, code, section)?;
        if self.added.is_some() {
            code.function(&copy());
        }
        Ok(())
    }
}

impl ReencodeComponent for Rewriting {
    fn parse_component_submodule(
        &mut self,
        component: &mut Component,
        parser: Parser,
        module: &[u8],
    ) -> Result<()> {
        self.added = added(parser.clone(), module)?;
        wasm_encoder::reencode::component_utils::parse_component_submodule(
            self, component, parser, module,
        )
    }
}

/// Where the function goes; `None` if the module has nothing to copy with or within.
fn added(parser: Parser, module: &[u8]) -> Result<Option<Added>> {
    let (mut types, mut functions, mut memories, mut code) = (0, 0, Vec::new(), false);
    for payload in parser.parse_all(module) {
        match payload? {
            Payload::TypeSection(section) => {
                for group in section {
                    types += group?.types().len() as u32;
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    match import?.ty {
                        TypeRef::Func(_) | TypeRef::FuncExact(_) => functions += 1,
                        TypeRef::Memory(memory) => memories.push(memory),
                        _ => {}
                    }
                }
            }
            Payload::FunctionSection(section) => functions += section.count(),
            Payload::MemorySection(section) => {
                for memory in section {
                    memories.push(memory?);
                }
            }
            Payload::CodeSectionStart { count, .. } => code = count > 0,
            _ => {}
        }
    }
    let here = code && memories.first().is_some_and(|memory| !memory.memory64);
    Ok(here.then_some(Added {
        function: functions,
        its_type: types,
    }))
}

const TO: u32 = 0;
const FROM: u32 = 1;
const BYTES: u32 = 2;

/// The bytes that one load takes, and the loads and stores that take them.
#[derive(Clone, Copy)]
enum Piece {
    One,
    Two,
    Four,
    Eight,
    Sixteen,
}

impl Piece {
    const fn bytes(self) -> i32 {
        match self {
            Self::One => 1,
            Self::Two => 2,
            Self::Four => 4,
            Self::Eight => 8,
            Self::Sixteen => 16,
        }
    }

    fn load(self, code: &mut InstructionSink<'_>, offset: u64) {
        let at = at(offset);
        match self {
            Self::One => code.i32_load8_u(at),
            Self::Two => code.i32_load16_u(at),
            Self::Four => code.i32_load(at),
            Self::Eight => code.i64_load(at),
            Self::Sixteen => code.v128_load(at),
        };
    }

    fn store(self, code: &mut InstructionSink<'_>, offset: u64) {
        let at = at(offset);
        match self {
            Self::One => code.i32_store8(at),
            Self::Two => code.i32_store16(at),
            Self::Four => code.i32_store(at),
            Self::Eight => code.i64_store(at),
            Self::Sixteen => code.v128_store(at),
        };
    }
}

fn at(offset: u64) -> MemArg {
    MemArg {
        offset,
        align: 0,
        memory_index: 0,
    }
}

/// `(to, from, bytes)`, as `memory.copy` takes them.
fn copy() -> Function {
    let mut function = Function::new([]);
    let mut code = function.instructions();
    // shorter ones are far more frequent, so they are asked for first
    code.local_get(BYTES)
        .i32_const(16)
        .i32_le_u()
        .if_(BlockType::Empty);
    {
        for piece in [Piece::Eight, Piece::Four, Piece::Two] {
            code.local_get(BYTES).i32_const(piece.bytes()).i32_ge_u();
            code.if_(BlockType::Empty);
            pieces(&mut code, piece, 1);
            code.return_().end();
        }
        code.local_get(BYTES).if_(BlockType::Empty);
        code.local_get(TO).local_get(FROM);
        Piece::One.load(&mut code, 0);
        Piece::One.store(&mut code, 0);
        code.end().return_();
    }
    code.end();
    for (bytes_max, count) in [(32, 1), (64, 2)] {
        code.local_get(BYTES).i32_const(bytes_max).i32_le_u();
        code.if_(BlockType::Empty);
        pieces(&mut code, Piece::Sixteen, count);
        code.return_().end();
    }
    code.local_get(TO).local_get(FROM).local_get(BYTES);
    code.memory_copy(0, 0).end();
    function
}

/// Copies `count` pieces from the start on and as many up to the end: what is between `count` and twice `count` pieces
/// long is covered. All are loaded before any is stored.
fn pieces(code: &mut InstructionSink<'_>, piece: Piece, count: u64) {
    let bytes = piece.bytes();
    let back = bytes * count as i32;
    // An address that may lie behind the start of the copy, never before it: the length is at least `back`.
    let tail = |code: &mut InstructionSink<'_>, of: u32| {
        code.local_get(of)
            .local_get(BYTES)
            .i32_add()
            .i32_const(back)
            .i32_sub();
    };
    for number in 0..count {
        code.local_get(TO);
        code.local_get(FROM);
        piece.load(code, number * bytes as u64);
        tail(code, TO);
        tail(code, FROM);
        piece.load(code, number * bytes as u64);
    }
    for number in (0..count).rev() {
        piece.store(code, number * bytes as u64);
        piece.store(code, number * bytes as u64);
    }
}

#[cfg(test)]
mod tests {
    use wasmtime::{Engine, Instance, Module, Store};

    use super::*;

    const SIZE: usize = 1 << 16;

    /// A memory and the copy, `c(to, from, bytes)`.
    fn module(original: bool) -> Vec<u8> {
        let text = r#"(component (core module
            (type (func)) (memory (export "m") 1)
            (func (export "c") (param i32 i32 i32)
                (memory.copy (local.get 0) (local.get 1) (local.get 2)))))"#;
        let component = wat::parse_str(text).unwrap();
        let component = if original {
            component
        } else {
            shortened(&component).unwrap()
        };
        for payload in Parser::new(0).parse_all(&component) {
            if let Payload::ModuleSection {
                unchecked_range, ..
            } = payload.unwrap()
            {
                return component[unchecked_range].to_vec();
            }
        }
        panic!("no module in the component");
    }

    #[test]
    fn every_copy_is_what_memory_copy_would_have_done() {
        let engine = Engine::default();
        let mut sides = [true, false].map(|original| {
            let mut store = Store::new(&engine, ());
            let module = Module::new(&engine, module(original)).unwrap();
            let instance = Instance::new(&mut store, &module, &[]).unwrap();
            let copy = instance
                .get_typed_func::<(i32, i32, i32), ()>(&mut store, "c")
                .unwrap();
            let memory = instance.get_memory(&mut store, "m").unwrap();
            (store, copy, memory)
        });
        let mut now = [0_u8; SIZE];
        // far from each other, overlapping either way, at both ends
        for (to, from) in [
            (1_000, 5_000),
            (107, 100),
            (100, 107),
            (100, 131),
            (131, 100),
            (0, 1),
            (5, 5),
        ] {
            for bytes in 0..200 {
                let after = sides.each_mut().map(|(store, copy, memory)| {
                    for (at, byte) in memory.data_mut(&mut *store).iter_mut().enumerate() {
                        *byte = (at * 31 % 251) as u8;
                    }
                    copy.call(&mut *store, (to, from, bytes)).unwrap();
                    now.copy_from_slice(memory.data(&*store));
                    now
                });
                assert!(after[0] == after[1], "{bytes} bytes from {from} to {to}");
            }
        }
        for (store, copy, _) in &mut sides {
            for bytes in [1, 2, 3, 7, 16, 17, 64, 65, 1_000] {
                let end = SIZE as i32;
                copy.call(&mut *store, (end - bytes, 0, bytes)).unwrap();
                assert!(copy.call(&mut *store, (end - bytes + 1, 0, bytes)).is_err());
                assert!(copy.call(&mut *store, (0, end - bytes + 1, bytes)).is_err());
            }
        }
    }

    #[test]
    fn what_has_no_copies_or_is_no_component_is_left_alone() {
        let without = wat::parse_str("(component (core module (memory 1) (func)))").unwrap();
        assert_eq!(shortened(&without), None);
        let whole = wat::parse_str("(component (core module (memory 1) (func (memory.copy (i32.const 0) (i32.const 1) (i32.const 2)))))").unwrap();
        assert!(shortened(&whole).is_some());
        for end in 0..whole.len() {
            assert_eq!(shortened(&whole[..end]), None, "{end} bytes");
        }
        assert_eq!(shortened(b"nonsense"), None);
    }
}
