//! The allocator of a step: lists of small pieces, and dlmalloc for the large ones, on the memory that the instance starts
//! with.
//!
//! An instance may live for one call (`record`) or for many (`batch`). For the first, `memory.grow` is what costs: each
//! is an `mprotect` in the host, and the default allocator grows by 64 KiB at a time, even where the module's initial
//! memory has room. So the heap begins in what is left of the initial memory (`--initial-memory`) and grows by at
//! least 256 KiB after that. For the second, memory must be freed, which a bump allocator does not do.
//!
//! A call of a step makes and frees some dozens of small pieces: the strings of its context, its event, what it parses
//! into. They come from lists, one to each of 40 sizes, in a few instructions; the library's free list takes several
//! times that. Pieces go back to their list and never to another size.

#![allow(unsafe_code)]

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};

use dlmalloc::{Allocator, Dlmalloc};

const PAGE_BYTES: usize = 64 << 10;
const GROW_BYTES_MIN: usize = 256 << 10;

/// Up to here a piece comes from the lists, above it from dlmalloc.
const SMALL_BYTES_MAX: usize = 32 << 10;
/// All that dlmalloc and the lists give is a multiple of this.
const ALIGN: usize = 16;
const CLASSES: usize = class(SMALL_BYTES_MAX) + 1;
/// What the lists take from dlmalloc at once, at least.
const CHUNK_BYTES: usize = 16 << 10;

#[global_allocator]
static HEAP: Heap = Heap(UnsafeCell::new(Lists {
    free: [core::ptr::null_mut(); CLASSES],
    chunk: core::ptr::null_mut(),
    left: 0,
    large: Dlmalloc::new_with_allocator(Pages {
        initial_used: AtomicBool::new(false),
    }),
}));

struct Heap(UnsafeCell<Lists>);

/// Freed pieces by their class, and what is left of the last chunk.
struct Lists {
    /// Each piece's first word leads to the next one.
    free: [*mut Piece; CLASSES],
    chunk: *mut u8,
    left: usize,
    large: Dlmalloc<Pages>,
}

struct Piece(*mut Piece);

/// The class of a size: steps of 16 up to 128, then four to each doubling.
const fn class(size: usize) -> usize {
    if size <= 128 {
        return size.saturating_sub(1) / 16;
    }
    let last = size - 1;
    let doubling = last.ilog2() as usize;
    8 + (doubling - 7) * 4 + ((last >> (doubling - 2)) & 3)
}

/// The size of a class's pieces: the largest that belongs to it.
const fn size_of_class(class: usize) -> usize {
    if class < 8 {
        return (class + 1) * 16;
    }
    let (doubling, quarter) = ((class - 8) / 4 + 7, (class - 8) % 4);
    (5 + quarter) << (doubling - 2)
}

const _: () = {
    let mut class_ = 0;
    while class_ < CLASSES {
        assert!(size_of_class(class_) % ALIGN == 0 && class(size_of_class(class_)) == class_);
        assert!(class(size_of_class(class_) + 1) == class_ + 1);
        class_ += 1;
    }
};

fn is_small(size: usize, align: usize) -> bool {
    size <= SMALL_BYTES_MAX && align <= ALIGN
}

impl Lists {
    #[inline]
    unsafe fn alloc(&mut self, layout: Layout) -> *mut u8 {
        if !is_small(layout.size(), layout.align()) {
            return unsafe { self.large.malloc(layout.size(), layout.align()) };
        }
        let class = class(layout.size());
        let first = self.free[class];
        if first.is_null() {
            return unsafe { self.cut(size_of_class(class)) };
        }
        self.free[class] = unsafe { (*first).0 };
        first.cast()
    }

    #[inline]
    unsafe fn dealloc(&mut self, ptr: *mut u8, layout: Layout) {
        if !is_small(layout.size(), layout.align()) {
            return unsafe { self.large.free(ptr, layout.size(), layout.align()) };
        }
        let class = class(layout.size());
        let piece: *mut Piece = ptr.cast();
        unsafe { (*piece).0 = self.free[class] };
        self.free[class] = piece;
    }

    /// A new piece. What is left of a chunk that is too small for it is given up: less than the piece.
    #[cold]
    unsafe fn cut(&mut self, size: usize) -> *mut u8 {
        if self.left < size {
            let bytes = CHUNK_BYTES.max(size);
            let chunk = unsafe { self.large.malloc(bytes, ALIGN) };
            if chunk.is_null() {
                return chunk;
            }
            (self.chunk, self.left) = (chunk, bytes);
        }
        let piece = self.chunk;
        self.chunk = unsafe { self.chunk.add(size) };
        self.left -= size;
        piece
    }
}

// SAFETY: a step has one thread (wasm without the threads proposal).
unsafe impl Sync for Heap {}

// SAFETY: a small piece has its class's size, which is at least the layout's, and 16 as its alignment; it is in a list only
// between `dealloc` and the `alloc` that gives it out again, and the layout that frees it names the class it was given for.
// All others are dlmalloc's, which keeps the contract. No call re-enters.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        unsafe { (*self.0.get()).alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let lists = unsafe { &mut *self.0.get() };
        if !is_small(layout.size(), layout.align()) {
            return unsafe { lists.large.calloc(layout.size(), layout.align()) };
        }
        let piece = unsafe { lists.alloc(layout) };
        if !piece.is_null() {
            unsafe { piece.write_bytes(0, layout.size()) };
        }
        piece
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        unsafe { (*self.0.get()).dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let lists = unsafe { &mut *self.0.get() };
        let (was, is) = (
            is_small(layout.size(), layout.align()),
            is_small(new_size, layout.align()),
        );
        if !was && !is {
            return unsafe {
                lists
                    .large
                    .realloc(ptr, layout.size(), layout.align(), new_size)
            };
        }
        if was && is && class(layout.size()) == class(new_size) {
            return ptr;
        }
        // SAFETY: the caller promises that `new_size` makes a layout of this alignment.
        let new = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        unsafe {
            let moved = lists.alloc(new);
            if !moved.is_null() {
                moved.copy_from_nonoverlapping(ptr, layout.size().min(new_size));
                lists.dealloc(ptr, layout);
            }
            moved
        }
    }
}

unsafe extern "C" {
    /// Set by the linker: the first address that neither the stack nor a static uses.
    static __heap_base: u8;
}

/// Where dlmalloc takes memory from. It never gives any back: wasm memory cannot shrink.
struct Pages {
    initial_used: AtomicBool,
}

// SAFETY: the regions are disjoint, belong to nobody else and are zero: the first is [__heap_base, end of the initial
// memory), which nothing else uses, the others are fresh from memory.grow.
unsafe impl Allocator for Pages {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        if !self.initial_used.swap(true, Ordering::Relaxed) {
            let base = (&raw const __heap_base as usize).next_multiple_of(16);
            let end = core::arch::wasm32::memory_size(0) * PAGE_BYTES;
            if end.saturating_sub(base) >= size {
                return (base as *mut u8, end - base, 0);
            }
        }
        // Large pieces where they are to be had, else exactly what is needed: a limit must not bite early.
        for bytes in [size.max(GROW_BYTES_MIN), size] {
            let pages = bytes.div_ceil(PAGE_BYTES);
            let before = core::arch::wasm32::memory_grow(0, pages);
            if before != usize::MAX {
                return ((before * PAGE_BYTES) as *mut u8, pages * PAGE_BYTES, 0);
            }
        }
        (core::ptr::null_mut(), 0, 0)
    }

    fn remap(&self, _ptr: *mut u8, _old: usize, _new: usize, _can_move: bool) -> *mut u8 {
        core::ptr::null_mut()
    }

    fn free_part(&self, _ptr: *mut u8, _old: usize, _new: usize) -> bool {
        false
    }

    fn free(&self, _ptr: *mut u8, _size: usize) -> bool {
        false
    }

    fn can_release_part(&self, _flags: u32) -> bool {
        false
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        PAGE_BYTES
    }
}
