# As a user C module, built into the firmware, of ports that build with CMake (rp2, esp32):
#
#     make -C $MPY_DIR/ports/rp2 USER_C_MODULES=$PWD/firmware/micropython/native/micropython.cmake
cmake_path(SET DELTARNN_ROOT NORMALIZE ${CMAKE_CURRENT_LIST_DIR}/../../..)
set(DELTARNN_CORE ${DELTARNN_ROOT}/ctypes_core/deltatrain_core)
file(GLOB DELTARNN_SOURCES ${CMAKE_CURRENT_LIST_DIR}/deltarnn_*.c ${DELTARNN_CORE}/src/*.c)
file(STRINGS ${DELTARNN_ROOT}/setup.cfg DELTARNN_VERSION REGEX "^version = ")
string(REPLACE "version = " "" DELTARNN_VERSION "${DELTARNN_VERSION}")

add_library(usermod_deltarnn INTERFACE)
target_sources(usermod_deltarnn INTERFACE ${DELTARNN_SOURCES})
target_include_directories(usermod_deltarnn INTERFACE
    ${CMAKE_CURRENT_LIST_DIR} ${DELTARNN_CORE}/include ${DELTARNN_CORE}/src)
target_compile_definitions(usermod_deltarnn INTERFACE DELTARNN_VERSION="${DELTARNN_VERSION}")
target_link_libraries(usermod INTERFACE usermod_deltarnn)
