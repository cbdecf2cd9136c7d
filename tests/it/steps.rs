//! The GitHub action and the CodeBuild step, executed as they are written.
