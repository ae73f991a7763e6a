outfall_test(admin_route_test
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/admin_route_test.cc
  LIBS outfall_admin
  LABELS unit)
target_compile_definitions(admin_route_test PRIVATE OUTFALL_SOURCE_FOLDER="${CMAKE_SOURCE_DIR}")
