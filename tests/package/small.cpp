// For programs where kilobytes count: without it, GNU's C++ runtime brings along what prints the types of
// exceptions that nobody catches.
#include <cstdlib>

namespace __gnu_cxx {
void __verbose_terminate_handler() { std::abort(); }
}  // namespace __gnu_cxx
