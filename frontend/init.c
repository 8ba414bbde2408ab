/* init.c: the first use of the library. */
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "backend/backend.h"
#include "base/fatal.h"
#include "base/options.h"
#include "base/os.h"
#include "frontend/fork.h"
#include "frontend/frontend.h"
#include "frontend/hardened.h"
#include "frontend/pool.h"

static struct lock init_lock = LOCK_INIT(RANK_INIT);
static _Atomic bool ready;

bool library_is_ready(void) {
    /* acquire: pairs with the release in library_init */
    return atomic_load_explicit(&ready, memory_order_acquire);
}

static void print_at_exit(void) { stats_print(); }

/* Before the C library has set up the environment there are no options to read; the constructor comes back for them. */
static bool settings_known;

static void settings_read(void) {
    if (settings_known)
        return;
    settings_known = environ != NULL;
    if (settings_known && !os_is_secure())
        options_parse(getenv("RNALLOC_OPTIONS"));
    struct backend_config config = {
        .hugepages = option_get(OPT_HUGEPAGES),
        .hugetlb_mib = (unsigned)option_get(OPT_HUGETLB),
        .release = option_get(OPT_RELEASE),
        .retain = option_get(OPT_RETAIN_MIB) << 20,
    };
    backend_init(&config);
}

/* atexit may allocate: called with no lock held. */
static void stats_at_exit(void) {
    static _Atomic bool registered;
    if (option_get(OPT_STATS) && !atomic_exchange_explicit(&registered, true, memory_order_relaxed))
        (void)atexit(print_at_exit);
}

/* Everything that may itself allocate comes last, when allocating works, and holds no lock. Where there is no memory
 * for the tables, the next call tries again; until then the class table stays empty, and every block is a large one. */
static void init_once(void) {
    static bool mode_known;
    bool first = false;
    lock_take(&init_lock);
    if (!atomic_load_explicit(&ready, memory_order_relaxed)) {
        if (!mode_known) {
            os_init();
            lock_init();
            settings_read();
            mode_init();
            if (option_get(OPT_HARDENED))
                hardened_init();
            mode_known = true;
        }
        first = pools_init();
        if (first) {
            if (!rn_hardened)
                classes_init(class_table, true);
            /* release: pairs with the acquire in library_is_ready */
            atomic_store_explicit(&ready, true, memory_order_release);
        }
    }
    lock_drop(&init_lock);
    if (first) {
        if (rn_thread.area == &rn_new_area)
            thread_register();
        fork_handlers_register();
        stats_at_exit();
    }
}

void library_init(void) {
    if (RN_LIKELY(library_is_ready()))
        return;
    init_once();
}

/* Blocks were given out before the options could be read, and not as hardened mode knows them. */
static void warn_of_late_options(void) {
    struct line line = {.used = 0};
    line_text(&line, "option \"hardened=1\": read too late, after the first allocation; not in force");
    if (option_get(OPT_HARDENED) && !rn_hardened)
        line_warn(&line);
}

/* A program that never allocates before its first fork still has the handlers registered by then; and one that never
 * allocates at all pays for little else. */
__attribute__((constructor)) static void library_loaded(void) {
    fork_handlers_register();
    if (getenv("RNALLOC_OPTIONS")) {
        library_init();
        settings_read();
        warn_of_late_options();
        stats_at_exit();
    }
}
