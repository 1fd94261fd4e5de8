// The C API: see fastrnn.h, its contract.
#include "fastrnn/fastrnn.h"

#include "dispatch.h"

extern "C" {

const char* fr_version(void) { return FASTRNN_VERSION; }
int fr_abi_version(void) { return FR_ABI_VERSION; }

}  // extern "C"
