// Nothing is allocated, locked or asked of the system between a stream's creation and its end: every
// function that would is interposed here and counted, and under Linux's strict seccomp mode the kernel
// ends a process that calls it for anything but read, write and exit.
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

#include "model/runner.h"
#include "networks.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif
#if defined(__GLIBC__) && !defined(SANITIZED)  // sanitizers interpose themselves
#define INTERPOSED 1
#endif

namespace {

bool watching = false;
int calls = 0;
const char* last_call = "";

void count(const char* name) {
  if (!watching) return;
  ++calls;
  last_call = name;
}

}  // namespace

#ifdef INTERPOSED
#include <dlfcn.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cstdarg>

namespace {

template <class F>
F* next(const char* name) {
  return reinterpret_cast<F*>(dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);
void __libc_free(void*);

void* malloc(std::size_t n) {
  count("malloc");
  return __libc_malloc(n);
}
void* calloc(std::size_t n, std::size_t size) {
  count("calloc");
  return __libc_calloc(n, size);
}
void* realloc(void* p, std::size_t n) {
  count("realloc");
  return __libc_realloc(p, n);
}
void free(void* p) {
  count("free");
  __libc_free(p);
}
void* aligned_alloc(std::size_t alignment, std::size_t n) {
  count("aligned_alloc");
  return __libc_memalign(alignment, n);
}
int posix_memalign(void** p, std::size_t alignment, std::size_t n) {
  count("posix_memalign");
  *p = __libc_memalign(alignment, n);
  return *p ? 0 : 12;
}
void* mmap(void* at, std::size_t n, int protection, int flags, int file, off_t offset) {
  count("mmap");
  static auto* const real = next<decltype(mmap)>("mmap");
  return real(at, n, protection, flags, file, offset);
}
int munmap(void* at, std::size_t n) {
  count("munmap");
  static auto* const real = next<decltype(munmap)>("munmap");
  return real(at, n);
}
int brk(void* end) {
  count("brk");
  static auto* const real = next<decltype(brk)>("brk");
  return real(end);
}
void* sbrk(std::intptr_t n) {
  count("sbrk");
  static auto* const real = next<decltype(sbrk)>("sbrk");
  return real(n);
}
int pthread_mutex_lock(pthread_mutex_t* mutex) {
  count("pthread_mutex_lock");
  static auto* const real = next<decltype(pthread_mutex_lock)>("pthread_mutex_lock");
  return real(mutex);
}
int pthread_cond_wait(pthread_cond_t* condition, pthread_mutex_t* mutex) {
  count("pthread_cond_wait");
  static auto* const real = next<decltype(pthread_cond_wait)>("pthread_cond_wait");
  return real(condition, mutex);
}
long syscall(long number, ...) {  // futex and all others that have no function of their own
  count("syscall");
  static auto* const real = next<decltype(syscall)>("syscall");
  va_list list;
  va_start(list, number);
  long a[6];
  for (long& value : a) value = va_arg(list, long);
  va_end(list);
  return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
}  // extern "C"

void* operator new(std::size_t n) {
  count("operator new");
  if (void* p = __libc_malloc(n)) return p;
  throw std::bad_alloc();
}
void operator delete(void* p) noexcept {
  count("operator delete");
  __libc_free(p);
}
void operator delete(void* p, std::size_t) noexcept { operator delete(p); }
#endif  // INTERPOSED

#ifdef __linux__
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#endif

using namespace fastrnn;
using namespace fastrnn::testing;

namespace {

int failures = 0;
constexpr Index steps = 100, streams = 67;

// Streams of a network, and all that their functions take.
struct Subject {
  const Network& net;
  std::vector<std::unique_ptr<Runner>> owners;
  std::vector<Runner*> runners;
  Values x, y, state;
  std::vector<std::int32_t> tokens;

  explicit Subject(const Network& network)
      : net(network),
        x(Random()(steps * net.input_size(), 2)),
        y(steps * net.output_size()),
        state(net.state_size()),
        tokens(steps, static_cast<std::int32_t>(net.input_size() - 1)) {
    for (Index i = 0; i < streams; ++i) {
      owners.push_back(std::make_unique<Runner>(net, i % 5));
      runners.push_back(owners.back().get());
    }
  }

  void everything() {
    Runner& runner = *runners[0];
    if (!net.takes_tokens()) {
      for (Index t = 0; t < steps; ++t) runner.step(x.data() + t * net.input_size(), y.data());
      runner.process(x.data(), steps, y.data());
      Runner::step_many(runners.data(), streams, x.data(), nullptr, y.data());
    }
    if (net.accepts_tokens()) {
      for (std::int32_t token : tokens) runner.step_token(token, y.data());
      runner.process_tokens(tokens.data(), steps, y.data());
      Runner::step_many(runners.data(), streams, nullptr, tokens.data(), y.data());
    }
    runner.get_state(state.data());
    runner.reset();
    runner.set_state(state.data());
  }
};

void check_calls(const std::string& name, Subject& subject) {
  calls = 0;
  watching = true;
  subject.everything();
  watching = false;
  if (calls == 0) return;
  ++failures;
  std::printf("%s: %d calls, the last of %s\n", name.c_str(), calls, last_call);
}

#if defined(__linux__) && !defined(SANITIZED)
// In a child that the kernel ends with SIGKILL at any call but read, write and exit. `forbidden`: it
// makes one, to see that this is so. Returns whether it lived, -1 where there is no such mode.
int lives_under_seccomp(Subject& subject, bool forbidden) {
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) != 0) _exit(77);
    subject.everything();
    if (forbidden) getppid();
    syscall(SYS_exit, 0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 77) return -1;
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

void check_seccomp(const std::string& name, Subject& subject) {
  if (lives_under_seccomp(subject, false) != 0) return;
  ++failures;
  std::printf("%s: a system call\n", name.c_str());
}
void check_seccomp_itself(Subject& subject) {
  const int lives = lives_under_seccomp(subject, true);
  if (lives < 0) std::printf("no strict seccomp mode here: not checked by it\n");
  if (lives == 1) ++failures, std::printf("seccomp lets system calls pass\n");
}
#else
void check_seccomp(const std::string&, Subject&) {}
void check_seccomp_itself(Subject&) {}
#endif

void check_interposition() {
#ifdef INTERPOSED
  watching = true;
  std::free(std::malloc(1));
  delete new Subject*;
  watching = false;
  if (calls < 4) ++failures, std::printf("calls are not counted\n");
#endif
}

}  // namespace

int main() {
  check_interposition();
  bool first = true;
  for (const Named& n : networks()) {
    Subject subject(*n.network);
    if (first) check_seccomp_itself(subject);
    first = false;
    check_calls(n.name, subject);
    check_seccomp(n.name, subject);
  }
  if (failures) std::printf("%d failures\n", failures);
  return failures ? 1 : 0;
}
