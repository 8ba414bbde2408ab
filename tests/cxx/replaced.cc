// replaced.cc: a program that replaces some of the operators: those that it leaves alone call the replaced ones, as
// [new.delete] says of the default versions. "single": new, delete and their aligned forms; "array": new[] and
// delete[].
#include <dlfcn.h>
#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>
#include "../lib/tap.h"

namespace {

const std::align_val_t A64{64};
const long MARK = 0x7265706c;
const size_t HEADER = 64;
unsigned calls_new, calls_delete, foreign;
bool refuse;

void *give(size_t size, size_t alignment) {
    calls_new++;
    if (refuse)
        throw std::bad_alloc();
    char *start = static_cast<char *>(aligned_alloc(alignment, (HEADER + size + alignment - 1) & -alignment));
    memcpy(start, &MARK, sizeof MARK);
    return start + HEADER;
}

void take(void *block) {
    calls_delete++;
    if (!block)
        return;
    char *start = static_cast<char *>(block) - HEADER;
    if (memcmp(start, &MARK, sizeof MARK) != 0)
        foreign++;
    else
        free(start);
}

}  // namespace

#ifdef REPLACE_ARRAY
#define NEW operator new[]
#define DELETE operator delete[]
#define NAME(single, array) __asm__(array) __attribute__((visibility("default")))
const char *const WHAT = "array";
#else
#define NEW operator new
#define DELETE operator delete
#define NAME(single, array) __asm__(single) __attribute__((visibility("default")))
const char *const WHAT = "single";
#endif

// Under the names of the Itanium C++ ABI: compilers ask for the sized forms where they see delete replaced, and without
// them is what is tested here.
extern "C" {
void *program_new(size_t size) NAME("_Znwm", "_Znam");
void program_delete(void *block) NAME("_ZdlPv", "_ZdaPv");
void *program_new_aligned(size_t size, size_t alignment) NAME("_ZnwmSt11align_val_t", "_ZnamSt11align_val_t");
void program_delete_aligned(void *block, size_t alignment) NAME("_ZdlPvSt11align_val_t", "_ZdaPvSt11align_val_t");

void *program_new(size_t size) { return give(size, 16); }
void program_delete(void *block) { take(block); }
void *program_new_aligned(size_t size, size_t alignment) { return give(size, alignment); }
void program_delete_aligned(void *block, size_t) { take(block); }
}

namespace {

// Each form in turn; the pointer is volatile, since a compiler may leave out new and delete that match.
#define BOTH(new_, delete_)                                                                                \
    do {                                                                                                   \
        unsigned news = calls_new, deletes = calls_delete;                                                 \
        void *volatile block = new_;                                                                       \
        void *p = block;                                                                                   \
        if (p)                                                                                             \
            memset(p, 0x77, 40);                                                                           \
        delete_;                                                                                           \
        OK(p &&calls_new == news + 1 && calls_delete == deletes + 1, "%s: %s, %s", WHAT, #new_, #delete_); \
    } while (0)

void every_form() {
    BOTH(::NEW(40), ::DELETE(p));
    BOTH(::NEW(40), ::DELETE(p, size_t(40)));
    BOTH(::NEW(40, std::nothrow), ::DELETE(p, std::nothrow));
    BOTH(::NEW(40, A64), ::DELETE(p, A64));
    BOTH(::NEW(40, A64), ::DELETE(p, size_t(40), A64));
    BOTH(::NEW(40, A64, std::nothrow), ::DELETE(p, A64, std::nothrow));
#ifndef REPLACE_ARRAY
    BOTH(::operator new[](40), ::operator delete[](p));
    BOTH(::operator new[](40), ::operator delete[](p, size_t(40)));
    BOTH(::operator new[](40, std::nothrow), ::operator delete[](p, std::nothrow));
    BOTH(::operator new[](40, A64), ::operator delete[](p, A64));
    BOTH(::operator new[](40, A64), ::operator delete[](p, size_t(40), A64));
    BOTH(::operator new[](40, A64, std::nothrow), ::operator delete[](p, A64, std::nothrow));
#else
    unsigned news = calls_new, deletes = calls_delete;
    void *volatile block = ::operator new(40);
    ::operator delete(block);
    block = ::operator new(40, std::nothrow);
    ::operator delete(block, size_t(40));
    OK(calls_new == news && calls_delete == deletes, "%s: what is not replaced stays as it is", WHAT);
#endif
}

// A nothrow form is used by the standard library itself, at any moment: also between dlopen and dlerror.
void unnoticed() {
    void *library = dlopen("/no/such/library.so", RTLD_NOW);
    ::DELETE(::NEW(40, std::nothrow), std::nothrow);
    OK(!library && dlerror(), "%s: nothrow forms leave the loader's last error alone", WHAT);
}

// A nothrow form catches what the replaced one throws.
void refused() {
    void *block[4];
    refuse = true;
    block[0] = ::NEW(40, std::nothrow);
    block[1] = ::NEW(40, A64, std::nothrow);
    block[2] = ::operator new[](40, std::nothrow);
    block[3] = ::operator new[](40, A64, std::nothrow);
    refuse = false;
    OK(!block[0] && !block[1] && !block[2] && !block[3], "%s: nothrow forms give null where the replaced ones throw",
       WHAT);
}

}  // namespace

int main() {
    tap_check_subject();
    every_form();
    unnoticed();
    refused();
    {
        std::vector<std::vector<int>> rows(100, std::vector<int>(30));
        for (int i = 0; i < 1000; i++)
            rows[static_cast<size_t>(i % 100)].push_back(i);
    }
    OK(foreign == 0, "%s: nothing of the allocator's own came back to the program (%u)", WHAT, foreign);
    return tap_done();
}
