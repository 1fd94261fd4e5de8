// The same test, compiled as C++.
#include "test_c_api.c"  // NOLINT
