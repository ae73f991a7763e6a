outfall_library(outfall_simulation_model
  SOURCES
    ${CMAKE_CURRENT_LIST_DIR}/simulation.cc
    ${CMAKE_CURRENT_LIST_DIR}/simulation_database.cc
    ${CMAKE_CURRENT_LIST_DIR}/simulation_digest.cc
    ${CMAKE_CURRENT_LIST_DIR}/simulation_emitter.cc
    ${CMAKE_CURRENT_LIST_DIR}/simulation_fiber.cc
    ${CMAKE_CURRENT_LIST_DIR}/simulation_sink.cc
    ${CMAKE_CURRENT_LIST_DIR}/simulation_worker.cc
    ${CMAKE_CURRENT_LIST_DIR}/simulation_world.cc
  PUBLIC outfall_history outfall_drain outfall_store_postgres outfall_telemetry)

# It jumps between stacks, which a library that checks jumps takes for a mistake.
set_source_files_properties(${CMAKE_CURRENT_LIST_DIR}/simulation_fiber.cc PROPERTIES
  COMPILE_OPTIONS "-U_FORTIFY_SOURCE" SKIP_UNITY_BUILD_INCLUSION ON)

add_executable(outfall_simulation ${CMAKE_CURRENT_LIST_DIR}/simulation_main.cc)
target_link_libraries(outfall_simulation PRIVATE
  outfall_options outfall_quick_build outfall_simulation_model CLI11::CLI11)

outfall_test(simulation_test
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/simulation_test.cc ${CMAKE_CURRENT_LIST_DIR}/simulation_fiber_test.cc
  LIBS outfall_simulation_model
  LABELS faults)

outfall_test(restart_doubt_test
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/restart_doubt_test.cc
  LIBS outfall_store_postgres outfall_test_support
  LABELS faults postgres)
