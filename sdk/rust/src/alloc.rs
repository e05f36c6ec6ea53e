//! The allocator of a step: dlmalloc on the memory that the instance starts with.
//!
//! An instance may live for one call (`record`) or for many (`batch`). For the first, `memory.grow` is what costs: each
//! is an `mprotect` in the host, and the default allocator grows by 64 KiB at a time, even where the module's initial
//! memory has room. So the heap begins in what is left of the initial memory (`--initial-memory`) and grows by at
//! least 256 KiB after that. For the second, memory must be freed, which a bump allocator does not do.

#![allow(unsafe_code)]

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};

use dlmalloc::{Allocator, Dlmalloc};

const PAGE_BYTES: usize = 64 << 10;
const GROW_BYTES_MIN: usize = 256 << 10;

#[global_allocator]
static HEAP: Heap = Heap(UnsafeCell::new(Dlmalloc::new_with_allocator(Pages {
    initial_used: AtomicBool::new(false),
})));

struct Heap(UnsafeCell<Dlmalloc<Pages>>);

// SAFETY: a step has one thread (wasm without the threads proposal).
unsafe impl Sync for Heap {}

// SAFETY: every call goes to dlmalloc, which keeps GlobalAlloc's contract; no call re-enters.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        unsafe { (*self.0.get()).malloc(layout.size(), layout.align()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        unsafe { (*self.0.get()).calloc(layout.size(), layout.align()) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        unsafe { (*self.0.get()).free(ptr, layout.size(), layout.align()) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        unsafe { (*self.0.get()).realloc(ptr, layout.size(), layout.align(), new_size) }
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
