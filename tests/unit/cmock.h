/* cmock.h: cmocka with the headers that it asks for. */
#ifndef TESTS_UNIT_CMOCK_H
#define TESTS_UNIT_CMOCK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#endif
