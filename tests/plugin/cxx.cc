// cxx.cc: a C++ library for C programs that load one later. It exercises operators whose C++ runtime came late.
#include <cstdint>
#include <new>
#include <string>
#include <vector>

extern "C" __attribute__((visibility("default"))) int plugin_work(int rounds) {
    std::vector<std::string> words;
    for (int i = 0; i < rounds; i++)
        words.push_back(std::string(static_cast<size_t>(i % 500), 'x'));
    size_t total = 0;
    for (const std::string &word : words)
        total += word.size();
    return static_cast<int>(total);
}

// 0: a failing new throws bad_alloc, which is caught here; and a throwing handler is tamed by nothrow new.
extern "C" __attribute__((visibility("default"))) int plugin_throws() {
    size_t size = SIZE_MAX / 2 + 1;
    __asm__ volatile("" : "+r"(size));
    try {
        ::operator delete(::operator new(size));
        return 1;
    } catch (const std::bad_alloc &) {
    }
    std::set_new_handler([] { throw std::bad_alloc(); });
    void *p = ::operator new(size, std::nothrow);
    std::set_new_handler(nullptr);
    return p ? 2 : 0;
}
